"""Hyper-parameter search: spaces in config files, and Optuna studies over folds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config_file": ["load_config"],
        "finished": ["importance", "load_study", "trials_table"],
        "places": ["find_spaces", "first_values", "resolve"],
        "source": ["to_source"],
        "spaces": ["Categorical", "Float", "HyperParameter", "Int"],
        "studies": ["FoldPruner", "count_fits", "create_study", "optimize"],
    },
)
