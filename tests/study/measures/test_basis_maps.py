"""Pictures of bases that nobody picked by eye."""

import itertools

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.stats import entropy

from emastudy.engine import predict
from emastudy.engine.diagnostics import responsibility_maps
from emastudy.study.measures import MEASURES, from_run_lengths
from emastudy.study.measures.basis_maps import run_lengths


@given(arrays(np.int64, array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 3)))
def test_run_lengths_lose_nothing(mask):
    runs = run_lengths(mask)
    np.testing.assert_array_equal(from_run_lengths(runs), mask)
    assert all(a != b for a, b in itertools.pairwise(runs["classes"]))


def test_maps_are_responsibilities_of_bases_chosen_by_rule(subject):
    (found,) = MEASURES["concepts"](subject, images=4)
    rows = MEASURES["maps"](subject, pictures=2, images=4)
    row = rows[1]
    assert [r["image"] for r in rows] == [0, 1]
    assert row["chosen"] == ["pure", "telling", "telling", "used"]  # all four that there are
    counts = np.array(found["counts"], dtype=float)
    classes = counts / counts.sum(axis=1, keepdims=True)
    assert row["bases"][0] == classes.max(axis=1).argmax()
    divergence = [entropy(mine, counts.sum(axis=0) / counts.sum()) for mine in classes]
    assert sorted(row["bases"][1:3], key=lambda k: -divergence[k]) == row["bases"][1:3]
    assert divergence[row["bases"][3]] < divergence[row["bases"][2]]
    drawn = torch.tensor(row["maps"])
    assert drawn.shape == (2, len(row["bases"]), 16, 16)
    network, scenes = subject.network, subject.dataset
    z = responsibility_maps(network, scenes, 1, [1, 2])[:, row["bases"]]
    torch.testing.assert_close(drawn / 255, z, atol=0.5 / 255, rtol=0)
    predicted = from_run_lengths(row["prediction"])
    dtype = subject.runtime.autocast_dtype(subject.config)
    network_says = predict(network, scenes[1][0], scenes, dtype=dtype)
    np.testing.assert_array_equal(predicted, network_says)
