"""The machine that the benchmarks ran on, and the code."""

from __future__ import annotations

import os
import platform
import subprocess
from argparse import Namespace
from importlib.metadata import version

from common.state import PROJECT

HERE = Namespace(engine="local", n_jobs=None)
"""Flags of fits in as many processes of this machine as it has room for."""


def describe() -> dict[str, object]:
    """Processor, device, memory and versions."""
    import torch

    from common.training.compute import cores, processor
    from common.training.precision import has_bf16_instructions

    commit = _git("rev-parse", "HEAD").strip()
    return {
        "cpu": processor(),
        "bf16_instructions": has_bf16_instructions(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_average": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "packages": {name: version(name) for name in ("torchvision", "mlflow", "optuna", "pillow")},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": commit or None,
        "git_dirty": bool(_git("status", "--porcelain")) if commit else None,
    }


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(PROJECT), *arguments], capture_output=True, check=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
