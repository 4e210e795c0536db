"""Arrays and recordings for a registered model that was trained on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from common.cli import UserError, escaped
from common.data.arrays import about_recordings, as_float32, read_npz


def predict_signals(model, files: Sequence[Path]) -> pd.DataFrame:
    """A row for each sample of `.npz` files, and for each event of recordings that MNE-Python reads (EDF, FIF, …).

    Recordings are filtered and cut as those were that the model was trained on: at the events that are its classes, or
    where there are none of these, at all events.

    Parameters
    ----------
    model : mlflow.pyfunc.PyFuncModel
        Of an :class:`common.production.ensemble.Ensemble`.

    Returns
    -------
    DataFrame
        ``file``, ``sample`` (a number from 0), ``onset`` (seconds into the recording, where there is one), and the
        columns of the model's answer.

    Raises
    ------
    UserError
        Naming the file, what was found in it and what the model takes.
    """
    ensemble, tables = model.get_raw_model(), []
    for file in files:
        x, onsets = (_of_npz if file.suffix == ".npz" else _of_recording)(file, ensemble.about)
        if x.shape[1:] != ensemble.input_shape:
            expected = f"expected samples of shape {ensemble.input_shape}, as the model takes"
            raise UserError(f"{file}: {expected}, found {x.shape[1:]}")
        places = pd.DataFrame({"file": escaped(str(file)), "sample": np.arange(len(x)), "onset": onsets})
        tables.append(pd.concat([places, model.predict(x)], axis=1))
    table = pd.concat(tables, ignore_index=True)
    return table if table["onset"].notna().any() else table.drop(columns="onset")


def _of_npz(file: Path, about: dict | None) -> tuple[np.ndarray, float]:
    parts = read_npz(file, ["X", "metadata"])
    if "X" not in parts or not len(parts["X"]):
        raise UserError(f"{file}: expected the array X with samples, found none")
    if about and (found := about_recordings(parts, file)):
        for name in ("channels", "sampling_rate"):
            if found.get(name) != about[name]:
                expected = f"expected {about[name]}, as the model was trained with"
                raise UserError(f"{file}: {name}: {expected}, found {found.get(name)}")
    return as_float32(parts["X"], file), np.nan


def _of_recording(file: Path, about: dict | None) -> tuple[np.ndarray, np.ndarray]:
    if about is None:
        raise UserError(f"{file}: expected an .npz file, as the model was trained on one without recordings")
    from common.eeg.epoching import cut_again

    try:
        return cut_again(file, about)
    except UserError as error:
        raise UserError(str(error).removeprefix("--files ")) from error
