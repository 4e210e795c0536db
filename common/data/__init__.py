"""Images and their labels: where they come from, how they are read, and how they are split."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
