"""What happened, kept in MLflow: runs, their metrics and artifacts, and where they come from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "runs": ["Run", "find_run", "start"],
    },
)
