"""What a network is made of, as a table."""

from __future__ import annotations

import re

import torch

from common.model.classifier import Classifier

COLUMNS = ("input_size", "num_params", "mult_adds")


def summary_of(network: Classifier) -> str:
    """torchinfo's table of a network: the input size, parameters and multiply-adds of each layer, for one input.

    Of a network that its own input stops, or whose layers torchinfo cannot follow, the layers alone, and the reason.
    """
    from torchinfo import summary  # needed once in a run

    example = torch.zeros(1, *network.settings["input_shape"])
    try:
        with torch.random.fork_rng():
            table = summary(
                network,
                input_data=example,
                device="cpu",
                depth=3,
                col_names=COLUMNS,
                col_width=18,
                row_settings=("var_names",),
                verbose=0,
            )
    except Exception as error:  # a network of somebody else's raises what it likes
        reason = f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}".splitlines()[0]
        return f"{network}\nno sizes of its layers: {reason}"
    return re.sub(r"\(Units\.(\w)\w+\)", r"(\1)", str(table))
