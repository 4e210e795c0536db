"""Results that can be found, moved, shrunk and deleted: ``python -m common.results list|show|disk|tidy|…``.

Each command is a function too, which returns a pandas table or lines of text.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
