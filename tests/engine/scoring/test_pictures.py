"""Predictions as pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from engine.tiny import TINY, runtime
from PIL import Image

from emastudy.engine import predict_files, train
from emastudy.engine.runtime import Machine
from emastudy.engine.scoring.pictures import class_picture, write_prediction
from emastudy.errors import InputError

COLORS = [(0, 0, 0), (255, 0, 100), (10, 20, 30)]


def test_a_class_picture_holds_indices_and_shows_colours():
    classes = np.array([[0, 2], [1, 1]])
    picture = class_picture(classes, COLORS)
    assert picture.mode == "P"
    assert np.array_equal(np.array(picture), classes)
    assert np.array_equal(np.array(picture.convert("RGB")), np.array(COLORS)[classes])


def test_mask_and_overlay_are_written(tmp_path):
    image = torch.randint(256, (3, 4, 6), dtype=torch.uint8)
    classes = torch.randint(3, (4, 6))
    write_prediction(tmp_path, "a", image, classes, COLORS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_mask.png", "a_overlay.png"]
    with Image.open(tmp_path / "a_overlay.png") as picture:
        seen = np.array(picture).astype(float)
    mean = (image.permute(1, 2, 0).numpy().astype(float) + np.array(COLORS)[classes.numpy()]) / 2
    assert np.abs(seen - mean).max() <= 1


def test_files_are_predicted_and_their_classes_counted(tmp_path):
    train(TINY, runtime(tmp_path))
    photograph = tmp_path / "x.png"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(40, 50, 3), dtype=np.uint8)).save(
        photograph
    )
    run, machine = runtime(tmp_path).run_dir(TINY), Machine(device="cpu", threads=1)
    ((path, shares),) = predict_files([photograph], run, tmp_path / "out", machine)
    assert path == photograph
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    with Image.open(tmp_path / "out" / "x_mask.png") as mask:
        assert mask.size == (50, 40)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "images is .*; expected at least one"),
        (["a/1.png", "b/1.jpg"], "2 images are called 1"),
    ],
)
def test_names_are_checked_before_anything_is_computed(paths, message, tmp_path):
    with pytest.raises(InputError, match=message):
        next(predict_files([Path(p) for p in paths], "/nowhere", tmp_path, Machine()))
