"""Training: the two-phase fit, and many fits side by side."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# config files of earlier versions import them here
from common.config.settings import SGD, AdamW, Augmentation, TrainingConfig  # noqa: E402, F401
