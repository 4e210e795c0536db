"""Hyper-parameter search: Optuna studies over folds, and networks that a search builds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
