"""What a caller's own steps return, and an epoch's metrics from that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from common.cli import UserError


class Means:
    """Means over images of what steps return, where torchmetrics does not know better."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, loss: float, values: Mapping[str, float], count: int) -> None:
        """Take in what a step returned for a batch of `count` images."""
        for name, value in ({"loss": loss} | dict(values) | {"loss": loss}).items():
            self._sums[name] += value * count
            self._counts[name] += count

    def metrics(self, part: str, torchmetrics: Any) -> dict[str, float]:
        """All of an epoch, named ``<part>_<name>``: as torchmetrics, which is reset, has them, else means."""
        found = {name: total / self._counts[name] for name, total in self._sums.items()}
        if torchmetrics is not None:
            members = list(torchmetrics.values()) if hasattr(torchmetrics, "values") else [torchmetrics]
            if all(metric.update_called for metric in members):
                computed = torchmetrics.compute()
                computed = computed if isinstance(computed, dict) else {type(torchmetrics).__name__: computed}
                found |= {name: float(value) for name, value in computed.items()}
            torchmetrics.reset()
        return {f"{part}_{name}": value for name, value in found.items()}


def checked(result: Any, name: str) -> tuple[float, dict[str, float]]:
    """The loss and the metrics that a step returned, as floats."""
    try:
        loss, values = result
        return float(loss), {str(key): float(value) for key, value in ({} if values is None else values).items()}
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        expected = "expected the loss and a dict of numbers or None, such as (0.5, {'accuracy': 0.9})"
        raise UserError(f"{name}: {expected}, found {result!r:.80}") from error


def in_one_line(start: str, metrics: Mapping[str, float]) -> str:
    """The metrics for people to read, after what they are of."""
    return "  ".join([start, *(f"{name} {value:.4g}" for name, value in metrics.items())])
