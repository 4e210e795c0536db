"""A choice between whole sub-configs: only the chosen optimiser's own parameters are asked for."""

from common.config import SGD, AdamW, Categorical, Float, TrainingConfig

config = TrainingConfig(
    learning_rate=Float(1e-4, 1e-2, log=True),
    optimizer=Categorical(
        [
            AdamW(beta1=Float(0.8, 0.95)),
            SGD(momentum=Float(0.5, 0.99)),  # its parameter is called `optimizer.SGD.momentum`
        ]
    ),
)
