from .experiment import from_params as from_params
from .own_steps import train as train
from .plain import start_plain as start_plain
