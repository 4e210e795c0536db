"""Networks: backbones with pretrained weights, and the head that is fine-tuned on top."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
