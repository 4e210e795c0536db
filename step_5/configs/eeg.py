"""EEG: a dense network and EEGNet on the same folds, which keep each subject on one side."""

from functools import partial

from common.config import TrainingConfig
from common.data.transforms import Scale
from common.eeg.eegnet import DenseEEG, EEGNet

data = "eeg"  # simulated on first use; or the path of your own .npz
experiment = "%Y-%m-%d"  # in MLflow, one for each day
root_splits = 3

config = TrainingConfig(
    transforms=(Scale(1e5),),  # volts
    augmentation=None,
    warmup_epochs=0,
    epochs=25,
    patience=10,
    learning_rate=3e-3,
)
models = [DenseEEG, partial(EEGNet, dropout=0.25)]  # a run of each; 0.25 is the paper's for subjects it has not seen
