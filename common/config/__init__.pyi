from .file import load_config as load_config, load_experiment as load_experiment
from .places import find_spaces as find_spaces, first_values as first_values, resolve as resolve
from .settings import (
    SGD as SGD,
    AdamW as AdamW,
    Augmentation as Augmentation,
    TrainingConfig as TrainingConfig,
    model_name as model_name,
)
from .source import to_source as to_source
from .spaces import Categorical as Categorical, Float as Float, HyperParameter as HyperParameter, Int as Int
