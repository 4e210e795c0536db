"""What the lessons use: their start, the difference between two steps, pictures, and the checks of exercises."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "exercises": ["check"],
        "folds": ["fold_diagram", "frozen_features", "probe_score", "simulated_scores"],
        "pictures": ["augmented_pictures", "learning_curves", "sample_pictures", "small", "spread_plot"],
        "reading": ["delta", "source"],
        "running": ["analyse", "begin", "module", "run"],
        "runs": ["history", "runs_table"],
        "searches": ["best_config_file", "best_of_n_plot", "history_plot", "importance_plot", "space_tree"],
        "tables": ["compact_table"],
    },
)
