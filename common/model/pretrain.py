"""Train the embedded backbone on drawings of imaginary animals: which of eight species is it?

The species (fox, rabbit, bear and so on) differ in ears, eyes, snout, whiskers and build; coats are independent of
them, so that shape must be learned. Nothing of the `drawn` data set is used, and unlike its photos these pictures are
clean. The last line gives the accuracy on drawings that were not trained on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from common import cli
from common.seeds import Stream
from common.state import whole

if TYPE_CHECKING:
    import numpy as np

SIZE, CROP = 72, 64

SPECIES = {
    "caracal": {"eye": 0.21, "slit": 0.6, "whiskers": 0.9, "ear_length": 1.1, "ear_width": 0.4, "ear_turn": 0.25,
                "ear_tip": 0.9, "snout": 0.2, "nose": 0.14, "tail": 0.7, "bulk": 0.75, "fur": 0.07},
    "fox": {"eye": 0.17, "slit": 0.3, "whiskers": 0.5, "ear_length": 1.05, "ear_width": 0.48, "ear_turn": 0.28,
            "ear_tip": 0.7, "snout": 0.8, "snout_width": 0.65, "nose": 0.14, "fur": 0.09, "tail": 2.2,
            "tail_width": 0.3, "bulk": 0.6},
    "rabbit": {"eye": 0.2, "slit": 0.0, "whiskers": 0.8, "ear_length": 1.9, "ear_width": 0.34, "ear_turn": 0.12,
               "ear_tip": -0.7, "snout": 0.15, "nose": 0.1, "fur": 0.08, "tail": 0.25, "tail_width": 0.3,
               "legs": 0.8},
    "mouse": {"eye": 0.16, "slit": 0.0, "whiskers": 1.0, "ear_length": 0.85, "ear_width": 0.7, "ear_turn": 0.5,
              "ear_tip": -1.0, "snout": 0.6, "snout_width": 0.6, "nose": 0.1, "tail": 2.8, "tail_width": 0.08,
              "legs": 0.6, "bulk": 0.8},
    "bear": {"eye": 0.13, "slit": 0.0, "whiskers": 0.0, "ear_length": 0.45, "ear_width": 0.42, "ear_turn": 0.45,
             "ear_tip": -1.0, "snout": 0.5, "snout_width": 1.25, "nose": 0.2, "fur": 0.12, "tail": 0.2,
             "bulk": 1.1},
    "lop": {"eye": 0.17, "slit": 0.0, "whiskers": 0.1, "ear_length": 1.6, "ear_width": 0.4, "ear_turn": 2.3,
            "ear_tip": -0.6, "snout": 0.3, "snout_width": 1.1, "nose": 0.12, "tail": 0.5},
    "otter": {"eye": 0.16, "slit": 0.1, "whiskers": 1.0, "ear_length": 0.3, "ear_width": 0.25, "ear_turn": 0.9,
              "ear_tip": -1.0, "snout": 0.25, "snout_width": 1.3, "nose": 0.17, "tail": 1.8, "tail_width": 0.25,
              "legs": 0.5, "length": 2.2},
    "lamb": {"eye": 0.18, "slit": 0.4, "whiskers": 0.0, "ear_length": 0.8, "ear_width": 0.3, "ear_turn": 1.2,
             "ear_tip": -0.3, "snout": 0.75, "snout_width": 0.85, "nose": 0.1, "fur": 0.17, "tail": 0.6,
             "legs": 1.5},
}  # fmt: skip
"""Measures of imaginary animals, where they differ from those of a dog."""


def draw(stream: Stream, number: int) -> np.ndarray:
    """The drawing of that number, of species `number` modulo 8: uint8 (SIZE, SIZE, 3)."""
    from common.data.made.animals import DOG, individual, photo
    from common.data.made.coats import PATTERNS, TONES

    mine = stream.at(str(number))
    rng = mine.numpy()
    tones = list(TONES)
    coat = " ".join([PATTERNS[rng.integers(len(PATTERNS))], *(tones[rng.integers(len(tones))] for _ in range(3))])
    free = {
        "coats": (coat,),
        "iris": tuple(0.9 * rng.random() for _ in range(3)),
    }
    name = list(SPECIES)[number % len(SPECIES)]
    animal = individual(replace(DOG, name=name, **free, **SPECIES[name]), rng)
    return photo(animal, mine.at("coat"), mine.at("photo"), SIZE, difficulty=0.0)


def main(argv: list[str] | None = None) -> float:
    """Draw, train, save; returns the accuracy on held-out drawings."""
    flags = cli.parser(__doc__)
    number = cli.whole_number
    flags.add_argument("--images", type=number(80), default=10000, metavar="N", help="drawings (default: %(default)s)")
    flags.add_argument("--epochs", type=number(1), default=16, metavar="N", help="passes (default: %(default)s)")
    flags.add_argument("--seed", type=cli.seed, default=1, metavar="N", help="root seed (default: %(default)s)")
    flags.add_argument("--output", type=Path, metavar="PATH", help="where the weights go (default: the shipped ones)")
    return _pretrain(flags.parse_args(argv))


def _pretrain(args: argparse.Namespace) -> float:
    import numpy as np
    import torch
    from joblib import Parallel, delayed
    from safetensors.torch import save_file
    from torch import nn
    from tqdm import tqdm

    from common.model.small_cnn import MEAN, STD, WEIGHTS, SmallCNN

    output = args.output or WEIGHTS
    stream = Stream(args.seed).at("pretrain")
    jobs = (delayed(draw)(stream, number) for number in range(args.images))
    drawn = Parallel(n_jobs=-1, return_as="generator", batch_size=16)(jobs)
    pixels = np.stack(list(tqdm(drawn, total=args.images, desc="drawing", unit="image")))
    images = ((torch.from_numpy(pixels) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).movedim(-1, 1)
    labels = torch.arange(args.images) % len(SPECIES)
    n_test = args.images // 10
    n_train = args.images - n_test

    torch.use_deterministic_algorithms(True)
    torch.manual_seed(stream.at("weights").integer())
    backbone = SmallCNN()
    network = nn.Sequential(backbone, nn.Linear(backbone.out_features, len(SPECIES)))
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    steps = args.epochs * -(-n_train // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.2)
    generator = stream.at("batches").torch()
    with tqdm(total=steps, desc="training", unit="batch") as bar:
        for _ in range(args.epochs):
            for batch in (torch.randperm(n_train, generator=generator) + n_test).split(32):
                y, x = torch.randint(SIZE - CROP + 1, (2,), generator=generator).tolist()
                crop = images[batch][..., y : y + CROP, x : x + CROP]
                if torch.rand((), generator=generator) < 0.5:
                    crop = crop.flip(-1)
                loss = nn.functional.cross_entropy(network(crop), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}")
    network.eval()
    with torch.inference_mode():
        scores = torch.cat([network(chunk) for chunk in images[:n_test].split(250)])
    with whole(output) as part:
        save_file({name: tensor.contiguous() for name, tensor in backbone.state_dict().items()}, part)
        part.chmod(0o644)
    accuracy = (scores.argmax(1) == labels[:n_test]).float().mean().item()
    print(f"wrote {output}; accuracy on {n_test} held-out drawings of {len(SPECIES)} species: {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    cli.run(main)
