"""What the lessons use: their start, the difference between two steps, pictures, and the checks of exercises."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
