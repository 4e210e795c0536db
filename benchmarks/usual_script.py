"""The usual script: photos opened anew in a DataLoader, MLflow called at each batch, a study for each inner fold."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import mlflow
import optuna
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from common.model import make_classifier
from common.seeds import Stream

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Photos(Dataset):
    """Photos of a folder with their labels: 1 for a dog, whose file name begins with a small letter."""

    def __init__(self, folder: Path, files: list[str], size: int, train: bool = False):
        self.folder, self.files = folder, files
        self.transform = v2.Compose(
            [
                *([v2.AutoAugment()] if train else []),
                v2.Resize((size, size)),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, float]:
        file = self.files[index]
        image = Image.open(self.folder / file).convert("RGB")
        return self.transform(image), float(Path(file).name[0].islower())


def train(model, loader, optimizer, step: int) -> int:
    """One epoch; returns the number of batches so far."""
    model.train()
    for images, labels in loader:
        images, labels = images.to(DEVICE), labels.to(DEVICE)
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(model(images).squeeze(1), labels.float())
        loss.backward()
        optimizer.step()
        mlflow.log_metric("batch_loss", loss.item(), step=step)
        step += 1
    return step


@torch.no_grad()
def evaluate(model, loader) -> float:
    """ROC AUC."""
    model.eval()
    outputs, labels = zip(
        *((model(images.to(DEVICE)).squeeze(1).cpu(), labels) for images, labels in loader), strict=True
    )
    return float(roc_auc_score(torch.cat(labels), torch.cat(outputs)))


def fit(args, loaders, learning_rate: float, weight_decay: float, dropout: float):
    """Train the head for an epoch, then everything for another; returns the model and its dev ROC AUC."""
    torch.manual_seed(args.seed)
    classifier = make_classifier(Stream(args.seed), backbone=args.backbone, weights="none", dropout_rate=dropout)
    backbone, head = classifier.backbone, classifier.head
    model = nn.Sequential(backbone, head).to(DEVICE)
    with mlflow.start_run():
        mlflow.log_params({"learning_rate": learning_rate, "weight_decay": weight_decay, "dropout": dropout})
        backbone.requires_grad_(False)
        optimizer = torch.optim.AdamW(head.parameters(), lr=10 * learning_rate, weight_decay=weight_decay)
        step = train(model, loaders["train"], optimizer, 0)
        mlflow.log_metric("dev_roc_auc", evaluate(model, loaders["dev"]), step=0)

        backbone.requires_grad_(True)
        groups = [
            {"params": backbone.parameters(), "lr": learning_rate},
            {"params": head.parameters(), "lr": 10 * learning_rate},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)
        train(model, loaders["train"], optimizer, step)
        score = evaluate(model, loaders["dev"])
        mlflow.log_metric("dev_roc_auc", score, step=1)
    return model, score


def search(args, loaders) -> float:
    """The best of some trials of an inner fold, fitted again; returns its test ROC AUC."""

    def objective(trial: optuna.Trial) -> float:
        return fit(
            args,
            loaders,
            trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True),
            trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
            trial.suggest_float("dropout", 0.0, 0.6),
        )[1]

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=args.seed))
    study.optimize(objective, n_trials=args.n_trials)
    model, _ = fit(args, loaders, **study.best_params)
    score = evaluate(model, loaders["test"])
    with mlflow.start_run():
        mlflow.log_metric("test_roc_auc", score)
    return score


def loaders_of(args, splits: dict, root: dict, nested: dict) -> dict[str, DataLoader]:
    """A loader for each part of an inner fold."""
    rows = {"train": nested["train_indices"], "dev": nested["dev_indices"], "test": root["test_indices"]}
    found = {}
    for part, indices in rows.items():
        files = [splits["files"][index] for index in indices]
        photos = Photos(args.folder, files, args.image_size, part == "train")
        found[part] = DataLoader(photos, args.batch_size, shuffle=part == "train", num_workers=args.workers)
    return found


def main() -> None:
    flags = argparse.ArgumentParser()
    for name in ("folder", "splits"):
        flags.add_argument(name, type=Path)
    flags.add_argument("--backbone")
    for name in ("image-size", "batch-size", "workers", "n-trials", "root-splits", "inner-splits", "seed"):
        flags.add_argument(f"--{name}", type=int)
    args = flags.parse_args()
    mlflow.set_tracking_uri("sqlite:///usual.db")
    mlflow.set_experiment("usual")
    splits = json.loads(args.splits.read_text())
    scores = []
    for root in splits["root_splits"][: args.root_splits]:
        nested = root["nested_splits"][: args.inner_splits]
        scores.append([search(args, loaders_of(args, splits, root, one)) for one in nested])
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
