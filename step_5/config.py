"""What step 5 trains: every setting of `TrainingConfig`, as a value or as a search space."""

from common.config import Float, Int, TrainingConfig

config = TrainingConfig(
    epochs=10,  # a value is fixed
    hidden_dim=Int(16, 256, log=True),  # a space is searched, and its parameter is called `hidden_dim`
    dropout_rate=Float(0.0, 0.6),
    warmup_learning_rate=Float(1e-4, 1e-2, log=True),
    warmup_weight_decay=Float(1e-4, 1e-1, log=True),
    learning_rate=Float(1e-4, 1e-2, log=True),
    weight_decay=Float(1e-4, 1e-1, log=True),
)
