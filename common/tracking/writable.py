"""What is written to a run: parameters, tags and artifacts, by the one process that writes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Param, RunTag

from common.cli import masked
from common.tracking.identity import flatten
from common.tracking.readable import Readable
from common.tracking.records import Placed
from common.tracking.seam import OnRecord, keep_network, predicted, tell

if TYPE_CHECKING:
    import pandas as pd


class Writable(Placed, Readable):
    """A run that is open; one that had finished before takes no more, see :class:`common.tracking.Run`."""

    is_over: bool
    recorded: OnRecord | None
    tables: dict[str, Any]
    _predicted: str | bytes

    def params(self, values: Any) -> None:
        """Record parameters from a dict or a dataclass; nested ones get dotted names."""
        self._write(params=[Param(name, masked(str(value))[:6000]) for name, value in flatten(values).items()])

    def tags(self, **values: object) -> None:
        """Set tags."""
        self._write(tags=[RunTag(name, masked(str(value))) for name, value in values.items()])

    def _write(self, **entities: list) -> None:
        if not self.is_over:
            self.client.log_batch(self.run_id, **entities)

    def text(self, text: str | bytes, artifact: str) -> None:
        if artifact == "model.safetensors" and not keep_network(self, len(text), self._predicted):
            return
        self._predicted = text if artifact == "predictions.csv" else ""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(artifact).name
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            self.file(path, str(Path(artifact).parent) if "/" in artifact else None)
        if artifact == "model.safetensors" and not self.is_over:
            tell(self, "model_saved", artifact, artifact=artifact)

    def record(self, predictions: pd.DataFrame) -> None:
        """Put test predictions on the record, before they are scored: :func:`common.evidence.ledger.put_on_record`."""
        if self.recorded:
            predicted(self.place["root_run_id"], self.recorded, predictions)

    def table(self, table: pd.DataFrame, artifact: str) -> None:
        self.tables[artifact] = table
        super().table(table, artifact)

    def event(self, kind: str, once: str, payload: dict[str, object]) -> None:
        """Tell the brokers of its events, see :mod:`common.events`."""
        tell(self, kind, once, **payload)

    def file(self, path: Path, folder: str | None = None) -> None:
        """Store a file as an artifact."""
        if not self.is_over:
            self.client.log_artifact(self.run_id, str(path), folder)
