"""How good is it: metrics, statistics, plots and the tables that a run ends with."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "comparison": ["compare_models", "comparison_text"],
        "ending": ["conclude"],
        "ensemble": ["Ensemble"],
        "metrics": ["SCORES", "confusion", "score_predictions", "youden_threshold"],
        "plots": [
            "all_plots",
            "calibration_plot",
            "confusion_plot",
            "density_plot",
            "fold_plot",
            "roc_plot",
            "save_plots",
        ],
        "predictions": ["classes_of", "ensemble_scores", "join", "mean_scores", "predictions_table", "results_of"],
        "production": ["register"],
        "report": ["analysis_text", "results_table", "summary"],
        "statistics": ["corrected_resampled_interval", "corrected_resampled_ttest"],
    },
)
