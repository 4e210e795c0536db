from .eegnet import DenseEEG as DenseEEG, EEGNet as EEGNet
from .epoching import EpochSettings as EpochSettings, make_epochs as make_epochs
from .epochs import Epochs as Epochs, load_epochs as load_epochs, save_epochs as save_epochs
from .recordings import load_eegbci as load_eegbci, read_files as read_files
from .simulation import simulate_recordings as simulate_recordings
