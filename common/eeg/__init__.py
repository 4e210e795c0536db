"""EEG: recordings of one's own, downloaded or simulated, cut into epochs; ``python -m common.eeg`` makes the file.

The file of epochs is an ``.npz`` of arrays like any other, see :mod:`common.data.arrays`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
