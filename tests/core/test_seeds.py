"""Random streams: the same place gives the same numbers, whatever was drawn elsewhere and before."""

import numpy as np
import pytest
import torch

from common.seeds import Stream

PLACES = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",), ("a b",), ("a / b",)]
PLACES += [("root 1", "inner 11"), ("root 11", "inner 1")]
DRAWS = {
    "integer": lambda stream: stream.integer(),
    "numpy": lambda stream: stream.numpy().random(4).tolist(),
    "torch": lambda stream: torch.rand(4, generator=stream.torch()).tolist(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_each_place_has_its_own_numbers_in_whatever_order_they_are_drawn(draw):
    forwards = [draw(Stream(seed, place)) for seed in (0, 1, 2**40) for place in PLACES]
    np.random.seed(7)
    torch.manual_seed(7)
    backwards = [draw(Stream(seed, place)) for seed in (2**40, 1, 0) for place in reversed(PLACES)]
    assert forwards == backwards[::-1]
    assert len(set(map(str, forwards))) == len(forwards)


def test_a_place_is_the_same_in_one_step_or_in_many():
    assert Stream(0).at("a", "b") == Stream(0).at("a").at("b") == Stream(0, ("a", "b"))
    assert str(Stream(3).at("root 0").at("shuffle")) == "seed 3 / root 0 / shuffle"


def test_streams_are_of_the_types_that_libraries_take():
    stream = Stream(0).at("place")
    integers = [Stream(seed).integer() for seed in range(1000)]
    assert all(type(i) is int and 0 <= i < 2**32 for i in integers)
    assert max(integers) > 2**31 and len(set(integers)) == 1000
    assert isinstance(stream.numpy(), np.random.Generator) and stream.torch().device.type == "cpu"
    assert len({Stream.unseeded() for _ in range(8)}) == 8


def test_the_derivation_is_the_one_that_kept_results_came_from():
    stream = Stream(0).at("root 0", "shuffle")
    assert stream.integer() == 4020302681
    assert stream.numpy().permutation(8).tolist() == [7, 1, 6, 2, 5, 0, 4, 3]
    assert stream.torch().initial_seed() == 7249757774347826009
