"""Hyper-parameter search: Optuna studies over folds, and networks that a search builds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# config files of earlier versions import them here
from common.config.spaces import Categorical, Float, Int  # noqa: E402, F401
