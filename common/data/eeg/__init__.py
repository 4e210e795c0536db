"""EEG: recordings of one's own, downloaded or simulated, cut into epochs; ``python -m common.data.eeg`` makes the file.

The file of epochs is an ``.npz`` of arrays like any other, see :mod:`common.data.arrays`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "epoching": ["EpochSettings", "make_epochs"],
        "epochs": ["Epochs", "load_epochs", "save_epochs"],
        "recordings": ["load_eegbci", "read_files"],
        "simulation": ["simulate_recordings"],
    },
)
