"""A choice between whole sub-configs: only the chosen optimizer's own parameters are asked for."""

from common.config import SGD, AdamW, Categorical, Float, TrainingConfig

config = TrainingConfig(
    n_startup_trials=4,
    optimizer=Categorical(
        [
            AdamW(learning_rate=Float(1e-4, 1e-2, log=True), beta1=Float(0.8, 0.95)),
            # SGD wants higher rates: with one range for both, the range would decide which of them wins
            SGD(learning_rate=Float(1e-3, 1e-1, log=True), momentum=Float(0.5, 0.99)),  # `optimizer.SGD.momentum`
        ]
    ),
)
