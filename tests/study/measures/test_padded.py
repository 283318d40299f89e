"""Scores of images as they are and of the same in padded squares."""

import dataclasses

import numpy as np
import pytest

from emastudy.engine import evaluate, load_dataset
from emastudy.errors import InputError
from emastudy.study.measures import MEASURES, Subject


def test_the_two_scores_are_of_the_same_pixels(subject):
    (row,) = MEASURES["padded"](subject, side=97, images=3)
    assert row["images"] == 3
    assert row["padding"] == pytest.approx(100 * (1 - 64**2 / 97**2))
    assert np.sum(row["confusion"]) == np.sum(row["padded_confusion"]) == 3 * 64**2
    assert row["confusion"] != row["padded_confusion"]


def test_each_is_the_score_of_the_whole_set(subject):
    (row,) = MEASURES["padded"](subject, side=97)
    dataset = load_dataset(subject.config, "val", subject.runtime)
    how = subject.runtime.scoring(subject.config)
    assert row["miou"] == evaluate(subject.network, dataset, **how).miou
    assert row["padded"] == evaluate(subject.network, dataset, **how, square=97).miou


def test_squares_are_those_of_training_unless_said(subject):
    config = dataclasses.replace(subject.config, crop_size=65)
    given = Subject(subject.network, config, subject.runtime)
    assert MEASURES["padded"](given) == MEASURES["padded"](subject, side=65)


def test_images_are_never_shrunk(subject):
    with pytest.raises(InputError, match="side is 32.*64 pixels.*side=65 or more"):
        MEASURES["padded"](subject)
