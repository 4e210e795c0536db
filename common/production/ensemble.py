"""Several networks as one model: raw image files in, class names and mean probabilities out.

MLflow loads it with :func:`_load_pyfunc` from the files that :meth:`Ensemble.save` wrote.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from common.data.decoding import decode_image
from common.model import load_classifier, save_classifier

BATCH_SIZE = 64
NOTE = "registered_model_meta"
"""The file in which MLflow notes, in a copy of a model, of which version it is."""


class UnreadableImage(ValueError):
    """What was given for an image is none; `row` says which, counted from 0."""

    def __init__(self, row: int, reason: object):
        super().__init__(f"image {row}: {reason}")
        self.row, self.reason = row, str(reason)


class Ensemble:
    """Networks whose probabilities are averaged.

    Parameters
    ----------
    networks : sequence of nn.Module
        Each maps images, uint8 (B, C, H, W), to logits: (B,), of the second class, where there are two classes, else
        (B, K). Each has an ``image_size``, in pixels, and may have ``channels``, 3 (the default) or 1;
        :func:`common.model.save_classifier` can write it.
    thresholds : sequence of float
        One of each network; an image whose mean probability reaches their mean is of the second class. Not used for
        more than two classes: there the highest probability decides.
    classes : sequence of str
    about : dict, optional
        Of networks that take arrays: how these are made from recordings, :attr:`common.data.ImageTable.about`.
    version : int
        Of the registered model; 0 where it has none.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        thresholds: Sequence[float],
        classes: Sequence[str],
        about: dict | None = None,
        version: int = 0,
    ):
        if not networks or (len(classes) == 2 and len(thresholds) != len(networks)):
            raise ValueError(f"expected a threshold for each network, found {len(thresholds)} for {len(networks)}")
        self.networks = [network.eval() for network in networks]
        self.thresholds = [float(threshold) for threshold in thresholds]
        self.classes = tuple(classes)
        self.about = about
        self.version = version

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one image or array."""
        return tuple(self.networks[0].settings["input_shape"])

    def get_raw_model(self) -> Ensemble:
        """Itself: what MLflow's model of the same method gives."""
        return self

    def predict(self, images: pd.DataFrame | Mapping[str, Sequence[bytes]] | np.ndarray) -> pd.DataFrame:
        """Predict the classes of images.

        Parameters
        ----------
        images : DataFrame
            Column ``image``: the bytes of an image file of any format. Or an ndarray, for networks that take arrays.

        Returns
        -------
        DataFrame
            A row per image: ``prediction`` (the name of a class); ``probability_<class>`` of each class, float64; of
            two classes ``threshold`` (of the probability of the second one) and ``positive_class`` (the second one);
            ``model_version``, an integer.

        Raises
        ------
        UnreadableImage
        """
        contents = images if isinstance(images, np.ndarray) else list(images["image"])
        parts = [self._probabilities(contents, start) for start in range(0, len(contents), BATCH_SIZE)]
        probabilities = np.concatenate([np.empty((0, len(self.classes))), *parts])
        rule: dict[str, object] = {}
        if len(self.classes) == 2:
            threshold = float(np.mean(self.thresholds))
            chosen = (probabilities[:, 1] >= threshold).astype(int)
            rule = {"threshold": threshold, "positive_class": self.classes[1]}
        else:
            chosen = probabilities.argmax(axis=1)
        answers = pd.DataFrame({"prediction": pd.Series([self.classes[i] for i in chosen], dtype="str")})
        named = {f"probability_{name}": probabilities[:, i] for i, name in enumerate(self.classes)}
        return answers.assign(**named, **rule, model_version=self.version)

    @torch.no_grad()
    def _probabilities(self, contents: Sequence[bytes] | np.ndarray, start: int) -> np.ndarray:
        """Mean over the networks for one batch: shape (B, K)."""
        decoded, probabilities = {}, []
        for network in self.networks:
            kind = network.image_size, getattr(network, "channels", 3)
            if isinstance(contents, np.ndarray):
                decoded[kind] = torch.from_numpy(contents[start : start + BATCH_SIZE].astype(np.float32))
            elif kind not in decoded:
                decoded[kind] = _decode(contents[start : start + BATCH_SIZE], start, *kind)
            device = next((weights.device for weights in network.parameters()), None)
            layout = torch.channels_last if decoded[kind].ndim == 4 else torch.preserve_format
            logits = network(decoded[kind].to(device, memory_format=layout)).double().cpu()
            if logits.ndim == 1:
                positive = torch.sigmoid(logits)
                probabilities.append(torch.stack([1 - positive, positive], dim=1))
            else:
                probabilities.append(torch.softmax(logits, dim=1))
        return torch.stack(probabilities).mean(dim=0).numpy()

    def save(self, folder: Path) -> None:
        """Write ``ensemble.json`` and ``0.safetensors``, ``1.safetensors``, … into a new folder."""
        folder.mkdir()
        for number, network in enumerate(self.networks):
            save_classifier(network, folder / f"{number}.safetensors")
        settings = {"classes": self.classes, "networks": len(self.networks), "thresholds": self.thresholds}
        settings |= {"about": self.about} if self.about else {}
        (folder / "ensemble.json").write_text(json.dumps(settings), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Ensemble:
        """What :meth:`save` wrote, on the CPU."""
        settings = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
        networks = [load_classifier(folder / f"{number}.safetensors") for number in range(settings["networks"])]
        return cls(networks, settings["thresholds"], settings["classes"], settings.get("about"))


def _decode(contents: Sequence[bytes], first_row: int, size: int, channels: int) -> torch.Tensor:
    images = np.empty((len(contents), channels, size, size), np.uint8)
    for i, content in enumerate(contents):
        try:
            images[i] = decode_image(content, size, channels)
        except ValueError as error:
            raise UnreadableImage(first_row + i, error) from error
    return torch.from_numpy(images)


def _load_pyfunc(path: str) -> Ensemble:
    """MLflow calls this, with ``data/ensemble`` of a model."""
    ensemble = Ensemble.load(Path(path))
    with contextlib.suppress(FileNotFoundError):
        note = (Path(path).parents[1] / NOTE).read_text(encoding="utf-8")
        if found := re.search(r"^model_version: '?(\d+)'?$", note, re.MULTILINE):
            ensemble.version = int(found[1])
    return ensemble
