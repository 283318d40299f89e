"""Predictions of trained networks, as pages draw them."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from emastudy.study.figures import drawing
from emastudy.study.report import Predictions, how_to_draw, map_pictures


@pytest.fixture
def configs(tiny):
    tiny = dataclasses.replace(tiny, eval_images=4)
    return {"FCN": tiny, "again": dataclasses.replace(tiny, seed=1)}


def title(ax):
    return ax.get_title(loc="left") or ax.get_title()


def test_predictions_are_those_of_every_method_on_every_image(configs, runtime):
    found = Predictions.of(configs, runtime, count=2)
    assert len(found.images) == 2
    assert list(found.scores.columns) == ["FCN", "again"]
    assert [mask.shape for mask in found.classes["FCN"]] == [(64, 64)] * 2
    found.draw([1], "one image")
    titles = [title(ax) for ax in plt.gcf().axes]
    assert titles == ["photograph", "truth", "FCN", "errors of FCN", "again", "errors of again"]
    assert plt.gcf().axes[0].get_ylabel() == ", ".join(
        f"{method} {score:.0f}" for method, score in found.scores.loc[1].items()
    )
    plt.close("all")
    found.draw_overlays()
    assert [title(ax) for ax in plt.gcf().axes][:4] == ["photograph", "truth", "FCN", "again"]
    truth = plt.gcf().axes[1].images[0].get_array()
    image, mask = found.images[0]
    palette = found.images.palette
    expected = drawing.overlay(image.permute(1, 2, 0).numpy(), mask.numpy(), palette)
    assert np.array_equal(truth, expected)
    plt.close("all")


def test_maps_stand_on_their_images_or_on_grey(configs, runtime):
    maps = pd.DataFrame({"image": [2], "prediction": [{"shape": [64, 64]}]})
    (picture,), (truth,) = map_pictures(configs["FCN"], maps, runtime)
    assert picture.shape == truth.shape == (64, 64, 3)
    assert picture.std() > 0
    photograph = dataclasses.replace(configs["FCN"], dataset="voc2012")
    (picture,), _ = map_pictures(photograph, maps, runtime)
    assert picture.shape == (64, 64, 3)
    assert set(picture.ravel()) == {128}


@pytest.mark.parametrize(
    ("data_root", "complete", "begins"),
    [
        ("", True, "No photographs were given"),
        ("VOC2012", False, "Checkpoints of some runs are absent"),
    ],
)
def test_what_is_not_drawn_says_how_to_draw_it(data_root, complete, begins):
    text = how_to_draw("31", "VOC", data_root=data_root, complete=complete)
    assert text.startswith(begins)
    assert "`emastudy study 31 --data-root FOLDER --set retrain=true`" in text
    assert how_to_draw("31", "VOC", data_root="VOC2012", complete=True) == ""
