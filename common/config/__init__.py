"""What a config is: the settings of a training, values that are searched, and the Python files that hold both."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
