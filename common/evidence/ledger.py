"""The record of test predictions, and of who looked at their scores: ``ledger.jsonl``, a chain of lines.

``python -m common.evidence.ledger`` checks the chain and shows it.

Test predictions get a line before they are scored, and each time their scores are shown another one. A line holds its
own SHA-256 and that of the line before, so none can be changed, removed or moved unseen. The lines of a run's
predictions are an artifact of the run too, which tells of lines that are gone from the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import cli, tracking
from common.cli import UserError, escaped
from common.data.chosen import test_set_digest
from common.evidence.findings import counted
from common.locks import locked
from common.state import state_folder, sync

if TYPE_CHECKING:
    import pandas as pd

FIRST = "0" * 64
"""What the first line has as ``before``."""
Line = dict[str, Any]


def ledger_file() -> Path:
    """Where the record is kept."""
    return state_folder() / "ledger.jsonl"


def ledger_lines() -> list[Line]:
    """The lines of the record, oldest first.

    Each has ``time`` (UTC), ``what``, ``run`` (the root run), ``n_configs`` (different predictions of the fold so far),
    ``before`` (``sha256`` of the line before) and ``sha256`` (of this line, with "" in its place).

    A line of ``predicted`` also has ``commit``, ``config``, ``data``, ``splits``, ``fold``, ``test_set`` (of the names
    and contents of the test images) and ``digest`` (of the predictions); one of ``read`` has ``test_sets`` and
    ``reason``; one of ``reported`` says which report names the run, one of ``deleted`` that a person deleted the
    run, and in spite of what.

    Raises
    ------
    UserError
        Naming the first line that was changed, removed or moved.
    """
    with _open() as lines:
        return lines


def put_on_record(run_id: str, about: Mapping[str, str], predictions: pd.DataFrame) -> None:
    """Put test predictions on the record, a line for each outer fold, unless they are there.

    Parameters
    ----------
    run_id : str
        The root run.
    about : mapping of str to str
        ``commit``, ``config``, ``data``, ``splits``.
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it.

    Raises
    ------
    UserError
        As :func:`ledger_lines`.
    """
    with _open() as lines:
        for fold, (test_set, digest) in sorted(_digests(predictions).items()):
            same = [line for line in lines if line["what"] == "predicted" and line["test_set"] == test_set]
            if not any((line["run"], line["digest"]) == (run_id, digest) for line in same):
                known = {line["digest"] for line in same} | {digest}
                found = {"fold": fold, "test_set": test_set, "n_configs": len(known), "digest": digest}
                _append(lines, {"what": "predicted", "run": run_id, **about, **found})


def read_scores(
    run_id: str,
    predictions: pd.DataFrame,
    reason: str,
    predictions_of: Callable[[str], pd.DataFrame | None],
    own_lines: str = "",
) -> str:
    """Put on the record that test scores are shown, and return the line that goes with them.

    Parameters
    ----------
    run_id, predictions
        As for :func:`put_on_record`.
    reason : str
        Why they are shown, or where.
    predictions_of : callable
        Takes the id of another root run, and returns its predictions, or None where they are gone.
    own_lines : str
        The run's artifact ``ledger.jsonl``, for a run from another machine.

    Raises
    ------
    UserError
        When predictions have no line, differ from it, or lack a fold that has one, and as :func:`ledger_lines`.
    """
    if unknown := ", ".join(map(str, missing_folds(run_id, predictions, own_lines))):
        raise UserError(
            f"run {run_id}: the test predictions of outer fold {unknown} are not on the record ({ledger_file().name}); "
            "expected a line for them, as they are, before they are scored, which run.record(predictions) writes"
        )
    test_sets = sorted(test_set for test_set, _ in _digests(predictions).values())
    with _open() as lines:
        tried: dict[str, dict[str, str]] = {}
        for line in lines:
            if line["what"] == "predicted" and line["test_set"] in test_sets:
                tried.setdefault(line["test_set"], {}).setdefault(line["digest"], line["run"])
        n_configs = max((len(found) for found in tried.values()), default=1)
        n_reads = 1 + sum(line["what"] == "read" and bool({*line["test_sets"]} & {*test_sets}) for line in lines)
        about = {"test_sets": test_sets, "n_configs": n_configs, "reason": reason}
        _append(lines, {"what": "read", "run": run_id, **about})
    said = f"the scores of these test folds were read {counted(n_reads, 'time')}"
    said = f"on the record: {said}; {counted(n_configs, 'config')} tried on them"
    if n_configs == 1:
        return said
    from common.evidence.optimism import MOST, said_of_optimism

    runs = [run for run in dict.fromkeys(run for found in tried.values() for run in found.values()) if run != run_id]
    others = [found for run in runs[-MOST:] if (found := predictions_of(run)) is not None]
    return f"{said}; {said_of_optimism([predictions, *others], n_configs)}"


def note(what: str, run_id: str, reason: str) -> None:
    """Put on the record, once, that a run was ``reported`` or ``deleted``; see :func:`ledger_lines`."""
    line = {"what": what, "run": run_id, "reason": reason}
    with _open() as lines:
        if not any(line.items() <= known.items() for known in lines):
            _append(lines, line)


def missing_folds(run_id: str, predictions: pd.DataFrame, own_lines: str = "") -> list[int]:
    """The outer folds whose test predictions are not on the record as they are now; see :func:`read_scores`.

    Folds that are on the record and gone from the predictions are among them.
    """
    lines = [line for line in ledger_lines() if line["run"] == run_id] + [*map(json.loads, own_lines.splitlines())]
    known = {(line["test_set"], line["digest"]) for line in lines if "digest" in line}
    found = _digests(predictions)
    gone = {line["fold"] for line in lines if "digest" in line} - found.keys()
    return sorted(gone | {fold for fold, one in found.items() if one not in known})


def lines_of(run_id: str) -> str:
    """The lines of a run's predictions, as they are in the record: its artifact ``ledger.jsonl``."""
    own = (line for line in ledger_lines() if line["run"] == run_id and line["what"] == "predicted")
    return "".join(f"{json.dumps(line)}\n" for line in own)


def main(argv: list[str] | None = None) -> list[Line]:
    """The command: check the record, and show it."""
    flags = cli.parser(__doc__)
    flags.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = flags.parse_args(argv)
    lines = ledger_lines()
    for line in lines:
        folds = f"fold {line['fold']}" if "fold" in line else counted(len(line.get("test_sets", ())), "fold")
        about = f"predictions {line['digest'][:16]}" if "digest" in line else line.get("reason", "")
        configs = counted(line.get("n_configs", 0), "config")
        print(escaped(f"{line['time']}  {line['what']:<9}  run {line['run'][:8]}  {folds:<7}  {configs:<9}  {about}"))
    texts = [*tracking.texts_on_record()]
    for run_id, text in texts:
        if gone := next((line for line in map(json.loads, text.splitlines()) if line not in lines), None):
            at = f"outer fold {gone['fold']} of run {run_id}, which still has it"
            raise UserError(f"{ledger_file()}: a line is gone: {at}")
    looked = counted(len(texts), "run")
    print(f"{ledger_file()}: {counted(len(lines), 'line')}, each as it was written; {looked} looked at")
    if args.json:
        print(json.dumps(lines))
    return lines


def _digests(predictions: pd.DataFrame) -> dict[int, tuple[str, str]]:
    """By outer fold: SHA-256 of the test images, and of what was predicted for them; labels are not in it."""
    found = {}
    test = predictions[predictions["part"] == "test"].sort_values(["inner_split", "file"], kind="stable")
    predicted = [name for name in test if name == "probability" or name.startswith("probability_")]
    for fold, rows in test.groupby("root_split"):
        images = zip(rows["file"].astype(str), rows["digest"].astype(str), strict=True)
        values = [rows[name].astype(float).map(repr) for name in (*predicted, "threshold")]
        names = rows["inner_split"].astype(str), rows["file"].astype(str)
        found[int(str(fold))] = (test_set_digest(images), _sha256(zip(*names, *values, strict=True)))
    return found


def _sha256(rows: Iterable[tuple]) -> str:
    return hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()


@contextmanager
def _open() -> Iterator[list[Line]]:
    """The checked lines, which nobody else adds to until the end of the block."""
    with locked(ledger_file()):
        yield _checked(ledger_file())


def _checked(path: Path) -> list[Line]:
    lines: list[Line] = []
    before = FIRST
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    for number, text in enumerate(content.split(b"\n")[:-1], 1):  # a line that a power cut left half is none
        try:
            line = json.loads(text)
            problem = "" if line["sha256"] == _sha256_of(line) else "was changed"
            if not problem and line["before"] != before:
                problem = "does not follow from the line before it, so a line was removed or moved"
        except (ValueError, KeyError, TypeError):
            problem = "was changed"
        if problem:
            raise UserError(
                f"{path}: line {number} {problem}; expected the file as it was, or none: then nothing is on the record"
            )
        lines.append(line)
        before = line["sha256"]
    return lines


def _append(lines: list[Line], line: Line) -> None:
    """Add a line, which is on disk when this returns."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"time": time, **line, "before": lines[-1]["sha256"] if lines else FIRST}
    line["sha256"] = _sha256_of(line)
    try:
        with open(ledger_file(), "ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(f"{json.dumps(line)}\n".encode())
            sync(file)
    except OSError as error:
        raise UserError(f"{ledger_file()}: cannot be written ({error.strerror})") from error
    lines.append(line)


def _sha256_of(line: Line) -> str:
    return hashlib.sha256(json.dumps({**line, "sha256": ""}).encode()).hexdigest()


if __name__ == "__main__":
    cli.run(main)
