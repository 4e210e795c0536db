"""How good is it: metrics, statistics and the tables that a run ends with."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
