"""Versions of data, with DVC: ``python -m common.versions track|status|checkout …``.

Git keeps a small file ``NAME.dvc`` beside the data, with their MD5 sum; DVC keeps the data, in a cache and in a remote
store. Every step can be repeated: what was killed at any moment is run again and ends the same.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
