"""Step 4 with batches as large as the usual script's, so that both take as many steps."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.usual import BATCH_SIZE
from common import cli
from step_4 import train

train.CONFIG = replace(train.CONFIG, batch_size=BATCH_SIZE)

if __name__ == "__main__":
    cli.run(train.main)
