"""Scores image by image, against the engine's own, and which images are the worst."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from emastudy.datasets import View
from emastudy.engine import evaluate
from emastudy.engine.build import build_network, load_dataset
from emastudy.study.measures import per_image


@pytest.fixture
def scenes(tiny, runtime):
    return load_dataset(dataclasses.replace(tiny, eval_images=4), "val", runtime)


def test_an_images_score_is_that_of_a_set_of_it_alone(tiny, runtime, scenes):
    torch.manual_seed(0)
    network = build_network(tiny, len(scenes.classes))
    guesses, scores = per_image.predictions(network, scenes, tiny, runtime)
    assert [g.shape for g in guesses] == [tuple(scenes[i][1].shape) for i in range(4)]
    alone = [evaluate(network, View(scenes, [i]), **runtime.scoring(tiny)).miou for i in range(4)]
    assert scores == pytest.approx(alone, rel=1e-12)
    assert len(set(scores)) > 1


def test_ignored_pixels_are_neither_right_nor_wrong(tiny, runtime, scenes):
    class Bordered(View):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return image, torch.full_like(mask, 255) if index == 3 else mask

    network = build_network(tiny, len(scenes.classes))  # made to see class 0 everywhere
    with torch.no_grad():
        network.head.classifier[-1].weight.zero_()
        network.head.classifier[-1].bias.copy_(torch.eye(len(scenes.classes))[0])
    guesses, scores = per_image.predictions(network, Bordered(scenes), tiny, runtime)
    assert not np.any(guesses)
    assert np.isnan(scores[3])
    share = float((scenes[0][1] == 0).float().mean())
    present = len(scenes[0][1].unique())
    assert scores[0] == pytest.approx(100 * share / present)


def test_the_worst_are_the_lowest_and_no_neighbours():
    scores = pd.Series([50.0, 10.0, 11.0, 12.0, 40.0, float("nan"), 30.0])
    assert per_image.worst(scores, 3) == [1, 2, 3]
    assert per_image.worst(scores, 3, apart=3) == [1, 6]
    assert per_image.worst(scores, 2, apart=2) == [1, 3]
