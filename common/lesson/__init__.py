"""What the lessons use: their start, predictions, the difference between two steps, pictures, and exercises."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
