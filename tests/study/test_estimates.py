"""Estimates follow the counted multiply-adds, and nothing else."""

import dataclasses

import pytest
import torch

from emastudy.engine import cost
from emastudy.engine.build import build_network
from emastudy.study.recipes import scenes
from emastudy.study.tables import estimate, estimates_table


def test_training_is_three_forward_passes_of_every_image(tiny):
    with torch.device("meta"):
        one = cost.measure(build_network(tiny, 5), (tiny.crop_size, tiny.crop_size))
    found = estimate(tiny, macs_per_second=1e6, num_classes=5)
    assert found.macs == 3 * one.macs * tiny.batch_size * tiny.iterations
    assert found.hours == pytest.approx(found.macs / 1e6 / 3600)
    assert found.memory == one.activation_bytes * tiny.batch_size / 2 + 12 * one.params


def test_gpus_share_the_batch(tiny):
    one, two = (estimate(tiny, gpus=n) for n in (1, 2))
    assert two.macs == one.macs
    assert two.hours == pytest.approx(one.hours / 2)
    assert one.memory / 2 < two.memory < one.memory  # weights are not shared out
    with pytest.raises(ValueError, match="gpus is 3.*batch_size = 2"):
        estimate(tiny, gpus=3)


def test_what_does_not_shape_the_network_does_not_count(tiny):
    other = dataclasses.replace(tiny, seed=3, learning_rate=1.0, train_split="trainaug")
    assert estimate(other) == estimate(tiny)


def test_the_table_has_the_recipes_for_gpus():
    def large():
        return dataclasses.replace(scenes(), crop_size=513)

    table = estimates_table({"scenes": scenes, "large": large}, (1, 2))
    head, _, row = table.splitlines()
    assert head.count("GPU") == 2
    assert row.startswith("| `large` |")
