"""One fit with Lightning, fastai or skorch, or a search by Optuna with Lightning, as their users write them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from common.model import make_classifier
from common.seeds import Stream

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORKERS = 2
RATE = 1e-4


def is_dog(file: str | Path) -> float:
    return float(Path(file).name[0].islower())


class Photos(Dataset):
    """Photos with their labels; those to train on are changed at random, as step 1 changes them."""

    def __init__(self, folder: Path, files: list[str], size: int, train: bool = False):
        self.folder, self.files = folder, files
        random = [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(10, translate=(0.1, 0.1), scale=(0.85, 1.15)),
            v2.ColorJitter(0.2, 0.2, 0.2),
        ]
        fixed = [v2.Resize((size, size)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        self.transform = v2.Compose([*fixed[:1], *(random if train else []), *fixed[1:]])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, float]:
        image = Image.open(self.folder / self.files[index]).convert("RGB")
        return self.transform(image), is_dog(self.files[index])


def new_network(args, dropout: float = 0.2) -> nn.Sequential:
    classifier = make_classifier(Stream(0), backbone=args.backbone, weights="none", dropout_rate=dropout)
    return nn.Sequential(classifier.backbone, classifier.head)


def photos_of(args, files: dict[str, list[str]]) -> dict[str, Photos]:
    return {part: Photos(args.folder, names, args.image_size, part == "train") for part, names in files.items()}


def loaders_of(args, files: dict[str, list[str]]) -> dict[str, DataLoader]:
    return {
        part: DataLoader(photos, args.batch_size, shuffle=part == "train", num_workers=WORKERS)
        for part, photos in photos_of(args, files).items()
    }


def lightning_fit(network: nn.Module, loaders, rate: float = RATE, weight_decay: float = 1e-2, **trainer):
    """Train the head for an epoch, then everything for another; returns the module, its trainer and its dev ROC AUC."""
    import lightning
    from torchmetrics.classification import BinaryAUROC

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.auroc = network, BinaryAUROC()

        def training_step(self, batch, index: int) -> torch.Tensor:
            images, labels = batch
            loss = binary_cross_entropy_with_logits(self.network(images).squeeze(1), labels.float())
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, index: int) -> None:
            images, labels = batch
            self.auroc.update(self.network(images).squeeze(1), labels.int())
            self.log("dev_roc_auc", self.auroc, on_epoch=True, prog_bar=True)

        def predict_step(self, batch, index: int) -> torch.Tensor:
            return self.network(batch[0]).squeeze(1)

        def configure_optimizers(self):
            parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay)

    module = Classifier()
    for frozen in (True, False):
        network[0].requires_grad_(not frozen)
        fit = lightning.Trainer(max_epochs=1, accelerator="cpu", **trainer)
        fit.fit(module, loaders["train"], loaders["dev"])
    return module, fit, float(fit.callback_metrics["dev_roc_auc"])


def lightning_score(module, trainer, loader) -> float:
    labels = torch.cat([labels for _, labels in loader])
    return float(roc_auc_score(labels, torch.cat(trainer.predict(module, loader))))


def lightning(args, files) -> dict:
    loaders = loaders_of(args, files)
    module, trainer, _ = lightning_fit(new_network(args), loaders)
    return {"test_roc_auc": lightning_score(module, trainer, loaders["test"])}


def lightning_search(args, splits) -> dict:
    """A study in the first outer fold; the networks of its best trial are tested."""
    import optuna
    from lightning.pytorch.loggers import MLFlowLogger

    root = splits["root_splits"][0]
    inner = []
    for nested in root["nested_splits"][: args.inner_splits]:
        rows = {"train": nested["train_indices"], "dev": nested["dev_indices"], "test": root["test_indices"]}
        files = {part: [splits["files"][row] for row in indices] for part, indices in rows.items()}
        inner.append(loaders_of(args, files))
    best: tuple[float, list] = (-1.0, [])

    def objective(trial: optuna.Trial) -> float:
        nonlocal best
        rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        decay = trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True)
        dropout = trial.suggest_float("dropout", 0.0, 0.6)
        fitted, scores = [], []
        for number, loaders in enumerate(inner):
            logger = MLFlowLogger("peers", f"trial {trial.number} fold {number}", tracking_uri="sqlite:///peers.db")
            *pair, score = lightning_fit(new_network(args, dropout), loaders, rate, decay, logger=logger)
            fitted.append(pair)
            scores.append(score)
            trial.report(score, number)
        score = sum(scores) / len(scores)
        if score > best[0]:
            best = score, fitted
        return score

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=args.n_trials)
    tested = zip(best[1], inner, strict=True)
    scores = [lightning_score(*pair, loaders["test"]) for pair, loaders in tested]
    return {"test_roc_auc": sum(scores) / len(scores), "fits": len(inner) * args.n_trials}


def fastai(args, files) -> dict:
    from fastai.vision import all as vision

    def halves(network):
        return [vision.params(network[0]), vision.params(network[1])]

    items = [args.folder / name for name in (*files["train"], *files["dev"])]
    block = vision.DataBlock(
        blocks=(vision.ImageBlock, vision.RegressionBlock),
        get_y=is_dog,
        splitter=vision.IndexSplitter(range(len(files["train"]), len(items))),
        item_tfms=vision.Resize(args.image_size),
        batch_tfms=[*vision.aug_transforms(max_lighting=0.2), vision.Normalize.from_stats(MEAN, STD)],
    )
    loaders = block.dataloaders(items, bs=args.batch_size, num_workers=WORKERS)
    learner = vision.Learner(loaders, new_network(args), vision.BCEWithLogitsLossFlat(), splitter=halves)
    learner.fine_tune(1, base_lr=RATE, freeze_epochs=1)
    outputs, _ = learner.get_preds(dl=loaders.test_dl([args.folder / name for name in files["test"]]))
    return {"test_roc_auc": float(roc_auc_score([is_dog(name) for name in files["test"]], outputs.squeeze(1)))}


def skorch(args, files) -> dict:
    from skorch import NeuralNetBinaryClassifier
    from skorch.callbacks import EpochScoring
    from skorch.helper import predefined_split

    photos = photos_of(args, files)
    network = new_network(args)
    net = NeuralNetBinaryClassifier(
        network,
        optimizer=torch.optim.AdamW,
        lr=RATE,
        max_epochs=1,
        batch_size=args.batch_size,
        train_split=predefined_split(photos["dev"]),
        callbacks=[EpochScoring("roc_auc", lower_is_better=False)],
        **{f"{which}__num_workers": WORKERS for which in ("iterator_train", "iterator_valid")},
        iterator_train__shuffle=True,
    ).initialize()
    for frozen in (True, False):
        net.module_[0].requires_grad_(not frozen)
        net.partial_fit(photos["train"], y=None)
    labels = [is_dog(name) for name in files["test"]]
    return {"test_roc_auc": float(roc_auc_score(labels, net.predict_proba(photos["test"])[:, 1]))}


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("kind", choices=["lightning", "fastai", "skorch", "lightning_search"])
    for name in ("folder", "splits"):
        flags.add_argument(name, type=Path)
    flags.add_argument("--backbone")
    for name in ("image-size", "batch-size", "n-trials", "inner-splits"):
        flags.add_argument(f"--{name}", type=int)
    args = flags.parse_args()
    print(json.dumps(globals()[args.kind](args, json.loads(args.splits.read_text()))))


if __name__ == "__main__":
    main()
