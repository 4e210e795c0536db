"""Predict the classes of images with a registered model: a CSV, or a grid of pictures.

``python -m common.production.predict --model pets cat.jpg photos/ --output predictions.csv``

Images may be in a gzipped idx file, such as ``t10k-images-idx3-ubyte.gz``, too, or in DICOM and NIfTI files.

``python -m common.production.predict --model eeg new.npz recording.edf`` does so for arrays and recordings, with a
model that was trained on arrays.

``python -m common.production.predict --model pets --from kafka`` answers requests from a topic instead; each is the
bytes of an image file, or its pixels in JSON, its answer ``prediction``, ``probabilities`` by class, and what decided:
see ``docs/messages.md``.

A registered model is code: it runs with your rights, so use models of people you trust.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from common import cli
from common.cli import UserError, escaped
from common.state import regular, whole_file

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from common.plots.scores import Plot


class IdxImage(NamedTuple):
    """An image of an idx file: uint8 (height, width)."""

    file: Path
    number: int
    pixels: np.ndarray

    def __str__(self) -> str:
        return f"{self.file}/{self.number}"


AT_ONCE = 64
"""Images that are read and predicted together."""
MOST = 120
"""Pictures that one grid has room for."""


def main(argv: list[str] | None = None) -> pd.DataFrame | None:
    """Predict and write; returns the table: ``file``, and the columns of :meth:`Ensemble.predict`.

    Requests from a topic have no table.
    """
    flags = cli.parser(__doc__)
    flags.add_argument("--model", required=True, metavar="NAME", help="registered model: code, to be trusted")
    flags.add_argument("--version", type=cli.whole_number(1), metavar="N", help="default: the one in production")
    flags.add_argument("--output", type=Path, metavar="PATH", help="a .csv, or a .png with the pictures (default: CSV)")
    flags.add_argument(
        "--from", dest="broker", choices=["kafka", "pubsub"], help="answer requests, until none has come for TIMEOUT s"
    )
    help_images = "image, folder of images, or idx file; or .npz, EDF, FIF, …"
    flags.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help=help_images)
    args = flags.parse_args(argv)
    if args.broker is None and not args.images:
        raise UserError("IMAGE: none given; expected an image, a folder, or --from kafka|pubsub")
    if args.broker is None:
        return _predict(args)
    if args.images or args.output:
        raise UserError(f"--from {args.broker}: expected neither IMAGE nor --output, since answers go to a topic")
    _answer(args)
    return None


def _answer(args: argparse.Namespace) -> None:
    """Answer requests from a topic; see :mod:`common.events.requests`."""
    from common.events.broker import idle_time
    from common.events.requests import image_in, serve_requests
    from common.events.sending import only_broker

    broker, idle = only_broker(args.broker), idle_time(os.environ)
    model = _load(args)
    if _takes_arrays(model):
        raise UserError(f"--from {args.broker}: expected a model of images; {args.model} takes arrays")

    def handler(request: bytes) -> dict[str, object]:
        (row,) = _rows(model, [image_in(request)], ["the request"]).to_dict("records")
        name = "probability_"
        by_class = {key.removeprefix(name): value for key, value in row.items() if key.startswith(name)}
        others = {key: value for key, value in row.items() if not key.startswith(name)}
        return {"prediction": others.pop("prediction"), "probabilities": by_class, **others}

    print(f"{broker.name} at {broker.where}: answering {broker.requests} on {broker.answers}", file=sys.stderr)
    n_answered = serve_requests(broker, handler, idle)
    print(f"{n_answered} requests answered, none for {idle:g} s", file=sys.stderr)


def _load(args: argparse.Namespace):
    from common.production import load_production, load_version

    return load_production(args.model) if args.version is None else load_version(args.model, args.version)


def _predict(args: argparse.Namespace) -> pd.DataFrame:
    output, kind = args.output, args.output.suffix.lower() if args.output else ".csv"
    if kind not in (".csv", ".png"):
        raise UserError(f"--output {output}: expected a name that ends with .csv or .png")
    if output and not output.parent.is_dir():
        raise UserError(f"--output {output}: no folder {output.parent}")
    files = _files(args.images)
    paths = [file for file in files if isinstance(file, Path)]
    if kind == ".png" and len(paths) < len(files):
        raise UserError(f"--output {output}: expected image files for a grid, found an idx file; a .csv takes it")
    if kind == ".png" and len(files) > MOST:
        raise UserError(f"--output {output}: {len(files)} images; a grid has room for {MOST}, a .csv for any number")

    model = _load(args)
    files = _parts(files, model)
    paths = [file for file in files if isinstance(file, Path)]
    if kind == ".png" and _takes_arrays(model):
        raise UserError(f"--output {output}: expected a .csv, as {args.model} takes arrays")
    table = _table(model, files)
    content = grid(paths, table).png() if kind == ".png" else table.to_csv(index=False, lineterminator="\n").encode()
    if output:
        try:
            with whole_file(output) as file:
                file.write(content)
        except OSError as error:
            raise UserError(f"--output {output}: {error.strerror}") from error
        print(f"{len(table)} {'samples' if _takes_arrays(model) else 'images'}: {output}", file=sys.stderr)
    else:
        sys.stdout.write(content.decode())
    return table


def _files(paths: Sequence[Path]) -> list[Path | IdxImage]:
    """The images among the paths, those in folders, sorted within each, and those in idx files."""
    from common.data.image_files import list_images

    files: list[Path | IdxImage] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        if path.name.endswith("-ubyte.gz"):
            from common.params.idx_files import read_idx

            files += [IdxImage(path, number, pixels) for number, pixels in enumerate(read_idx(path, 3))]
            continue
        try:
            found = [path / name for name in list_images(path)[0]] if path.is_dir() else [path]
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error
        if not found:
            raise UserError(f"{path}: no images in this folder")
        files += found
    return files


def _parts(files: list[Path | IdxImage], model) -> list[Path | IdxImage]:
    """The same, where of medical images come the slices and frames that the model was trained on."""
    from common.data.scans import images_in, is_scan

    if _takes_arrays(model) or not any(isinstance(file, Path) and is_scan(file) for file in files):
        return files
    settings = (model.get_raw_model().about or {}).get("scans")
    return [image for file in files for image in (images_in(file, settings) if isinstance(file, Path) else [file])]


def _takes_arrays(model) -> bool:
    return model.metadata.signature.inputs.is_tensor_spec()


def _table(model, files: Sequence[Path | IdxImage]) -> pd.DataFrame:
    import pandas as pd
    from tqdm import tqdm

    if _takes_arrays(model):
        from common.production.signals import predict_signals

        paths = [file for file in files if isinstance(file, Path)]
        if len(paths) < len(files):
            raise UserError("IMAGE: expected .npz files or recordings, as the model takes arrays; found an idx file")
        return predict_signals(model, paths)
    parts = []
    with tqdm(total=len(files), desc="predicting", unit="image", leave=False, disable=None) as bar:
        for start in range(0, len(files), AT_ONCE):
            some = files[start : start + AT_ONCE]
            parts.append(_rows(model, [_read(file) for file in some], some))
            bar.update(len(some))
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "file", [escaped(str(file)) for file in files])
    return table


def _rows(model, images: Sequence[bytes], names: Sequence[object]) -> pd.DataFrame:
    import pandas as pd

    from common.production.ensemble import UnreadableImage

    try:
        return model.predict(pd.DataFrame({"image": list(images)}))
    except UnreadableImage as error:
        raise UserError(f"{names[error.row]}: {error.reason}") from error


def _read(file: Path | IdxImage) -> bytes:
    from common.data.decoding import as_png, png_of
    from common.data.scans import is_scan

    if isinstance(file, IdxImage):
        return as_png(file.pixels[None])
    try:
        if is_scan(file):
            return png_of(file)
        return regular(file).read_bytes()
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error


def grid(files: Sequence[Path], table: pd.DataFrame, columns: int = 6) -> Plot:
    """Each picture under its name, with a bar for the probability of each class, the predicted one in bold.

    Parameters
    ----------
    files : sequence of Path
        The images.
    table : DataFrame
        A row for each, as :func:`main` returns it.
    columns : int
        Pictures side by side, at most.
    """
    from common.data.decoding import read_image
    from common.plots.scores import CLASS_COLOURS, Plot

    classes = {column: column.removeprefix("probability_") for column in table if column.startswith("probability_")}
    columns = min(columns, len(files))
    rows = -(-len(files) // columns)
    bars = 0.17 * len(classes)
    figure = Plot(figsize=(1.9 * columns, (2.1 + bars) * rows), dpi=110, layout="constrained")
    figure.suptitle("bold: the predicted class", fontsize=8)
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[1.7, bars] * rows)
    for place in axes.flat:
        place.axis("off")
    for i, (file, (_, row)) in enumerate(zip(files, table.iterrows(), strict=True)):
        picture, chart = axes[2 * (i // columns), i % columns], axes[2 * (i // columns) + 1, i % columns]
        picture.imshow(read_image(file, 200).transpose(1, 2, 0))
        picture.set_title(_shortened(escaped(file.name)), fontsize=8)
        chart.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5))
        for k, (column, name) in enumerate(classes.items()):
            probability, weight = row[column], "bold" if name == row["prediction"] else "normal"
            chart.barh(k, 1, height=0.8, color="#eeeeee")
            chart.barh(k, probability, height=0.8, color=CLASS_COLOURS[k % len(CLASS_COLOURS)], alpha=0.55)
            chart.text(0.02, k, _shortened(name), va="center_baseline", fontsize=8, weight=weight)
            chart.text(0.98, k, f"{probability:.3f}", va="center_baseline", ha="right", fontsize=8, weight=weight)
    return figure


def _shortened(name: str, length: int = 24) -> str:
    return name if len(name) <= length else f"{name[: length // 2 - 1]}…{name[-length // 2 :]}"


if __name__ == "__main__":
    cli.run(main)
