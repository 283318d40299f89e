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
    guesses = {"FCN": per_image.predictions(network, scenes, tiny, runtime)}
    assert [g.shape for g in guesses["FCN"]] == [tuple(scenes[i][1].shape) for i in range(4)]
    alone = [evaluate(network, View(scenes, [i]), **runtime.scoring(tiny)).miou for i in range(4)]
    scores = per_image.score_images(scenes, guesses)
    assert scores["FCN"].tolist() == pytest.approx(alone, rel=1e-12)
    assert scores["FCN"].nunique() > 1


def test_ignored_pixels_are_neither_right_nor_wrong(scenes):
    class Bordered(View):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return image, torch.full_like(mask, 255) if index == 1 else mask

    guesses = {"all 0": [np.zeros(scenes[i][1].shape, np.uint8) for i in range(4)]}
    scores = per_image.score_images(Bordered(scenes), guesses)["all 0"]
    assert np.isnan(scores[1])
    share = float((scenes[0][1] == 0).float().mean())
    present = len(scenes[0][1].unique())
    assert scores[0] == pytest.approx(100 * share / present)


def test_the_worst_are_the_lowest_and_no_neighbours():
    scores = pd.Series([50.0, 10.0, 11.0, 12.0, 40.0, float("nan"), 30.0])
    assert per_image.worst(scores, 3) == [1, 2, 3]
    assert per_image.worst(scores, 3, apart=3) == [1, 6]
    assert per_image.worst(scores, 2, apart=2) == [1, 3]
