"""The configurable classifier: one dict `params`, networks from `net_arch`, and `train(...)` with one's own steps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
