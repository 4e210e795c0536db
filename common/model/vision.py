"""torchvision's models, without PyTorch's compiler.

torchvision imports the compiler, which takes two seconds, for one function of its operations. No model calls it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

COMPILER = ("torch._dynamo", "torch._dynamo.utils")


def _is_compile_supported(device: str) -> bool:
    return importlib.import_module(COMPILER[1]).is_compile_supported(device)


def _import_models() -> ModuleType:
    importlib.import_module("torch")
    stand_ins = {name: ModuleType(name) for name in COMPILER if name not in sys.modules}
    if len(stand_ins) == len(COMPILER):
        vars(stand_ins[COMPILER[1]])["is_compile_supported"] = _is_compile_supported
        sys.modules.update(stand_ins)
    try:
        return importlib.import_module("torchvision.models")
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


models = _import_models()
