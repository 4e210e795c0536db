"""Lists images whose label a finished run does not believe: ``python -m common.evidence.mislabelled RUN``.

Each image is judged by networks that have not seen it: the test predictions of the run's outer folds. As a look at
them, it adds a line to the ledger.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from common import cli, data, tracking
from common.cli import UserError
from common.evaluation.predictions import classes_of
from common.evidence.findings import SHOWN
from common.evidence.sheets import check_page_name, document, picture, write_page

MOST = 200
"""Images that the page shows."""


def doubtful_labels(predictions: pd.DataFrame) -> pd.DataFrame:
    """Test images whose labels are most likely wrong, the least likely label first.

    Confident learning: an image counts where its label is improbable and another class is as probable as that class
    is, on average, for images that have its label.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`common.evaluation.predictions_table` makes it; of several models the mean counts.

    Returns
    -------
    DataFrame
        Columns ``file``, ``class`` (its label), ``likely`` (the most probable class) and ``probability`` (of its
        label, in [0, 1]).

    Raises
    ------
    UserError
        When cleanlab is not installed.

    References
    ----------
    Northcutt, Jiang & Chuang (2021), Confident learning: estimating uncertainty in dataset labels, JAIR 70:1373-1411.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise UserError("cleanlab is not installed; pip install cleanlab, extra `evidence`") from None
    classes = classes_of(predictions)
    test = predictions[predictions["part"] == "test"]
    columns = [name for name in test if name.startswith("probability")]
    of_image = test.groupby("file").agg({"class": "first", "label": "first", **dict.fromkeys(columns, "mean")})
    found = of_image[columns].to_numpy()
    if found.shape[1] == 1:
        found = np.column_stack([1 - found, found])
    labels = of_image["label"].to_numpy()
    rows = find_label_issues(labels, found, return_indices_ranked_by="self_confidence", n_jobs=1)
    return pd.DataFrame(
        {
            "file": of_image.index[rows],
            "class": of_image["class"].to_numpy()[rows],
            "likely": [classes[label] for label in found[rows].argmax(1)],
            "probability": found[rows, labels[rows]],
        }
    )


def _page(found: pd.DataFrame, table, tested: int) -> str:
    rows = {cli.escaped(name): row for row, name in enumerate(table.files)}
    pictures = []
    for _, one in found[:MOST].iterrows():
        image = f'<img alt="" src="{picture(table.pixels[rows[one.file]])}">' if one.file in rows else ""
        text = f"{one.file}: {one['class']}, rather {one.likely} (its label has {one.probability:.2f})"
        pictures.append(f"<figure>{image}<figcaption>{escape(text)}</figcaption></figure>")
    shown = f", the first {MOST} of them here" if len(found) > MOST else ""
    text = f"{len(found)} of {tested} tested images of {table.name} may have a wrong label{shown}, least likely first."
    return document("Labels to look at", f"<p>{escape(text)}</p><div class=pairs>{''.join(pictures)}</div>")


def main(argv: list[str] | None = None) -> pd.DataFrame:
    """The command: ``python -m common.evidence.mislabelled RUN``."""
    flags = cli.parser(__doc__)
    flags.add_argument("run", metavar="RUN", help="id of a finished root run, or how it begins")
    flags.add_argument(
        "--output", type=Path, default=Path("labels.html"), metavar="FILE", help="(default: %(default)s)"
    )
    flags.add_argument("--json", action="store_true", help="end with one line of JSON")
    args = flags.parse_args(argv)
    check_page_name(args.output)
    run = tracking.find_root(args.run)
    predictions = run.read_table("predictions.csv")
    found = doubtful_labels(predictions)
    tested = predictions.loc[predictions["part"] == "test", "file"].nunique()
    table = data.load_images(tracking.data_of(run) or "drawn", 128, skip_unreadable=True)
    said = tracking.show_scores(run, predictions, "mislabelled")
    first = ", ".join(f"{row.file} ({row['class']}, rather {row.likely})" for _, row in found[:SHOWN].iterrows())
    print(f"labels: {len(found)} of {tested} tested images may have a wrong one{': ' if len(found) else ''}{first}")
    if tested < len(table):
        print(f"{len(table) - tested} images were not tested in this run; --root-splits tests more")
    write_page(args.output, _page(found, table, tested))
    print(f"page: {args.output}")
    if said:
        print(said)
    if args.json:
        print(json.dumps({"run_id": run.run_id, "tested": tested, "doubtful": found.to_dict("records")}))
    return found


if __name__ == "__main__":
    cli.run(main)
