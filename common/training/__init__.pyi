from .augmentation import augment as augment
from .beginning import configure as configure, print_epoch as print_epoch, set_up_for as set_up_for
from .compute import Compute as Compute
from .engine import (
    test_model as test_model,
    train_and_validate_model as train_and_validate_model,
    train_one_epoch as train_one_epoch,
    validate_one_epoch as validate_one_epoch,
)
from .features import frozen_features as frozen_features
from .jobs import beside as beside, run_fits as run_fits, run_jobs as run_jobs, run_tests as run_tests
from .networks import new_model as new_model
from .optimizers import Schedules as Schedules, make_optimizer as make_optimizer
from .precision import precision_for as precision_for, set_up as set_up, step_seconds as step_seconds
from .single import fit_on as fit_on
from .stopping import EarlyStopper as EarlyStopper
