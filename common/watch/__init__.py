"""The retraining trigger: runs a command when new data has appeared and settled (``python -m common.watch``)."""
