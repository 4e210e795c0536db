"""Hyper-parameter search: spaces in config files, and Optuna studies over folds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cnn": ["CNNSpace", "cnn_objective", "create_cnn_from_trial", "optuna_cnn", "retrain_and_eval"],
        "config_file": ["load_config", "load_experiment"],
        "finished": ["importance", "load_study", "trials_table"],
        "places": ["find_spaces", "first_values", "resolve"],
        "source": ["to_source"],
        "spaces": ["Categorical", "Float", "HyperParameter", "Int"],
        "studies": ["FoldPruner", "count_fits", "create_study", "optimize"],
        "visualizer": ["log_study_plots", "study_plots"],
    },
)
