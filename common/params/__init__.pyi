from .experiment import from_params as from_params
from .net_arch import build_classifier as build_classifier
from .own_steps import train as train
from .plain import start_plain as start_plain
from .seeding import set_seeds as set_seeds
