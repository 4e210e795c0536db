"""Training: settings, the two-phase fit, and many fits side by side."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": ["augment"],
        "compute": ["Compute"],
        "config": ["SGD", "AdamW", "Augmentation", "TrainingConfig"],
        "engine": [
            "NonFiniteLossError",
            "test_model",
            "train_and_validate_model",
            "train_one_epoch",
            "validate_one_epoch",
        ],
        "features": ["frozen_features"],
        "jobs": ["run_fits", "run_jobs"],
        "networks": ["model_name", "new_model"],
        "optimizers": ["Schedules", "make_optimizer"],
        "params": ["from_params", "load_experiment"],
        "precision": ["precision_for", "set_up", "step_seconds"],
        "single": ["fit_on"],
        "stopping": ["EarlyStopper"],
        "own_steps": ["train"],
        "settings": ["configure", "print_epoch", "set_up_for"],
    },
)
