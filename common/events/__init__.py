"""Runs tell Kafka or Google Pub/Sub how they get on; ``python -m common.events tail`` shows it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
