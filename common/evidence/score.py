"""Scores predictions of sealed images, as often as the seal allows: ``python -m common.evidence.score``.

``python -m common.evidence.score sealed_scans --key ~/scans.key --predictions predictions.csv``
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from pathlib import Path

import numpy as np

from common import cli
from common.cli import UserError, escaped
from common.evidence.encryption import decrypted, encrypted
from common.evidence.ladder import is_better, rung
from common.evidence.seal import LABELS, reads_file
from common.locks import locked
from common.state import regular, whole_file

READS = "reads.csv"
"""In the sealed folder: all answers so far, for everybody to see."""
ABOUT_ONE = 1e-3
"""How far from 1 the probabilities of an image may sum up."""


def sealed_probabilities(path: Path, names: list[str], classes: list[str]) -> np.ndarray:
    """The probabilities in a CSV file, one row for each sealed image.

    Parameters
    ----------
    path : Path
        Columns ``file`` (a name, or a path that ends with it) and ``probability_<class>`` for each class; of two
        classes also ``probability``, of the second. Others are not looked at.
    names : list of str
        Of the images.
    classes : list of str

    Returns
    -------
    ndarray of float64, shape (n_images, n_classes)
        In the order of `names`; rows sum up to 1.

    Raises
    ------
    UserError
        Naming the line, when an image is missing, listed twice or not sealed, a number is no probability, or a line has
        more fields than the header.
    """
    try:
        with open(regular(path), newline="", encoding="utf-8-sig") as file:
            found = _read_rows(path, csv.DictReader(file), set(names), classes)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing ({len(missing)} such images); expected each sealed image")
    given = np.array([found[name] for name in names])
    if given.shape[1] == 1:
        return np.column_stack([1 - given, given])
    sums = given.sum(1)
    wrong = np.flatnonzero(abs(sums - 1) > ABOUT_ONE)
    if wrong.size:
        raise UserError(f"{path}: probabilities of {names[wrong[0]]} sum up to {sums[wrong[0]]:g}; expected 1")
    return given / sums[:, None]


def _read_rows(path: Path, reader: csv.DictReader, names: set[str], classes: list[str]) -> dict[str, list[float]]:
    columns, found = _columns(path, list(reader.fieldnames or []), classes), {}
    for row in reader:
        place, name = f"{path}, line {reader.line_num}", Path(row["file"] or "").name
        if None in row:
            raise UserError(f"{place}: more fields than the header has; expected one for each of its columns")
        if name not in names or name in found:
            problem = "is listed twice" if name in found else "is not sealed"
            raise UserError(f"{place}: {name!r:.80} {problem}; expected each sealed image once")
        found[name] = [_probability(place, column, row[column]) for column in columns]
    return found


def _columns(path: Path, header: list[str], classes: list[str]) -> list[str]:
    columns = [f"probability_{name}" for name in classes]
    if len(classes) == 2 and "probability" in header:
        columns = ["probability"]
    if not {"file", *columns} <= set(header):
        raise UserError(f"{path}: expected the columns {','.join(['file', *columns])}, found {','.join(header):.200}")
    return columns


def _probability(place: str, column: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UserError(f"{place}: {column} is {text!r:.40}; expected a number from 0 to 1")
    return value


def brier_losses(probabilities: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """The Brier score of each patient: the mean over its images, in [0, 1].

    Of an image it is half the sum over classes of the squared difference from 0 or 1, which with two classes is the
    usual (p - y)².

    Parameters
    ----------
    probabilities : ndarray of float64, shape (n, n_classes)
        Rows sum up to 1.
    labels, patients : ndarray of int, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n_patients,)
        In the order of their numbers.
    """
    of_images = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(1) / 2
    numbers = np.unique(patients, return_inverse=True)[1]
    return np.bincount(numbers, of_images) / np.bincount(numbers)


def score(folder: Path, key_file: Path, predictions: Path, budget: int | None = None) -> dict:
    """Score predictions by the ladder, and count the read.

    The same predictions again have the same answer, and cost nothing.

    Parameters
    ----------
    folder : Path
        As :mod:`common.evidence.seal` wrote it.
    key_file : Path
        With the count of reads beside it.
    predictions : Path
        See :func:`sealed_probabilities`.
    budget : int, optional
        Fewer reads than the seal allows.

    Returns
    -------
    dict
        ``loss``: the best answer so far, a Brier score in [0, 1]; ``patients``, ``reads`` and ``budget``: numbers.

    Raises
    ------
    UserError
        When anything is not as expected, or no read is left; nothing is counted then.
    """
    sealed = decrypted("labels", folder / LABELS, key_file)
    names = sorted(sealed["images"])
    probabilities = sealed_probabilities(predictions, names, sealed["classes"])
    labels, patients = np.array([sealed["images"][name] for name in names]).T
    losses = brier_losses(probabilities, labels, patients)
    digest = hashlib.sha256(probabilities.tobytes()).hexdigest()
    most = min(sealed["budget"], budget or sealed["budget"])
    path = reads_file(key_file)
    if not path.exists():
        raise UserError(f"{path}: no such file; expected the count of reads, which is kept with the key")
    with locked(path):
        reads = decrypted("reads", path, key_file)
        _check_reads(folder / READS, path, reads, sealed["id"])
        answers = dict(reads["answers"])
        if digest not in answers:
            if len(answers) >= most:
                raise UserError(f"{folder}: all {most} reads are used; expected a new seal, of other patients")
            answers[digest] = _climb(reads, losses)
            reads["answers"] = list(answers.items())
            _write(path, encrypted("reads", reads, key_file.read_bytes().strip()))
        _write(folder / READS, _listed(reads["answers"]).encode())
    return {"loss": answers[digest], "patients": len(losses), "reads": len(answers), "budget": most}


def _climb(reads: dict, losses: np.ndarray) -> float:
    """The answer to new predictions; their losses are kept when they are the best so far."""
    best = min((answer for _, answer in reads["answers"]), default=math.inf)
    of_best = None if reads["losses"] is None else np.array(reads["losses"])
    if not is_better(losses, best, of_best):
        return best
    reads["losses"] = losses.tolist()
    return rung(losses)


def _write(path: Path, content: bytes) -> None:
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def _listed(answers: list) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["read", "sha256_of_predictions", "best_brier_so_far"])
    writer.writerows((number, *one) for number, one in enumerate(answers, 1))
    return text.getvalue()


def _check_reads(listed: Path, path: Path, reads: dict, number: str) -> None:
    """Refuse the count of another seal, or an older copy of it, which has fewer answers than are listed."""
    if reads["id"] != number:
        raise UserError(f"{path}: counts the reads of another seal; expected the file that was kept with this key")
    known = _listed(reads["answers"])
    if listed.exists() and not known.startswith(listed.read_text()):
        raise UserError(f"{path}: lacks reads that {listed} lists; expected the newest copy, kept with the key")


def main(argv: list[str] | None = None) -> dict:
    """The command: ``python -m common.evidence.score SEALED_FOLDER --key KEYFILE --predictions FILE``."""
    flags = cli.parser(__doc__)
    flags.add_argument("folder", type=Path, metavar="SEALED_FOLDER", help=f"with {LABELS}")
    flags.add_argument("--key", type=Path, required=True, metavar="KEYFILE", help="with the count of reads beside it")
    help_file = "CSV: file,probability_<class>,… as common.production.predict writes it"
    flags.add_argument("--predictions", type=Path, required=True, metavar="FILE", help=help_file)
    help_budget = "fewer reads than the seal allows"
    flags.add_argument("--budget", type=cli.whole_number(1), metavar="N", help=help_budget)
    args = flags.parse_args(argv)
    found = score(args.folder.expanduser(), args.key.expanduser(), args.predictions.expanduser(), args.budget)
    print(escaped(f"{args.folder}: best Brier score so far {found['loss']:.4f}, of {found['patients']} patients"))
    print(f"reads: {found['reads']} of {found['budget']}")
    return found


if __name__ == "__main__":
    cli.run(main)
