"""Scores of images as they are and of the same in padded squares."""

import dataclasses

import numpy as np
import pytest

from emastudy.engine import evaluate, load_dataset
from emastudy.errors import InputError
from emastudy.study.measures import MEASURES, Subject


def test_the_two_rows_are_scores_of_the_same_pixels(subject):
    plain, square = MEASURES["padded"](subject, side=97, images=3)
    assert [plain["at.padded"], square["at.padded"]] == [False, True]
    assert plain["padding"] == 0
    assert square["padding"] == pytest.approx(100 * (1 - 64**2 / 97**2))
    assert np.sum(plain["confusion"]) == np.sum(square["confusion"]) == 3 * 64**2
    assert plain["confusion"] != square["confusion"]


def test_as_they_are_is_as_the_run_is_scored(subject):
    row, _ = MEASURES["padded"](subject, side=97)
    how = subject.runtime.scoring(subject.config)
    expected = evaluate(
        subject.network, load_dataset(subject.config, "val", subject.runtime), **how
    )
    assert row["confusion"] == expected.confusion.tolist()


def test_squares_are_those_of_training_unless_said(subject):
    config = dataclasses.replace(subject.config, crop_size=65)
    given = Subject(subject.network, config, subject.runtime)
    assert MEASURES["padded"](given) == MEASURES["padded"](subject, side=65)


def test_images_are_never_shrunk(subject):
    with pytest.raises(InputError, match="side is 32.*64 pixels.*side=65 or more"):
        MEASURES["padded"](subject)
