"""CamVid on a tiny copy of its layout, and on the real frames where present."""

import dataclasses
import math

import pytest
import torch
from layouts import blocks, make_camvid

from emastudy.datasets import IGNORE, load
from emastudy.engine import Runtime, train
from emastudy.study import recipes


@pytest.fixture
def camvid(tmp_path):
    return make_camvid(tmp_path / "CamVid")


@pytest.mark.parametrize("above", [False, True])
def test_items_follow_the_list_and_unlabelled_pixels_are_ignored(camvid, above):
    dataset = load("camvid", "train", root=camvid.parent if above else camvid)
    assert [pair.name for pair in dataset.pairs] == ["0001TP_2", "0001TP_1"]
    image, mask = dataset[0]
    assert image.shape == (3, 36, 48)
    expected = torch.tensor(blocks([*range(11), IGNORE], 36, 48), dtype=torch.uint8)
    assert torch.equal(mask.as_subclass(torch.Tensor), expected)


def test_without_a_list_all_frames_count_by_name(camvid):
    (camvid / "train.txt").unlink()
    dataset = load("camvid", "train", root=camvid)
    assert [pair.name for pair in dataset.pairs] == ["0001TP_1", "0001TP_2"]


def test_a_subset_of_classes_is_renumbered(camvid):
    mask = load("camvid", "val", root=camvid, classes=["car", "road"])[0][1]
    expected = [IGNORE] * 12
    expected[8], expected[3] = 0, 1
    assert mask[0].tolist() == blocks(expected, 1, 48)[0].tolist()


def test_bad_roots_and_splits_are_named(camvid, tmp_path):
    with pytest.raises(ValueError, match="camvid has train, val, test"):
        load("camvid", "trainval", root=camvid)
    with pytest.raises(FileNotFoundError, match="holds no CamVid"):
        load("camvid", root=camvid / "train")
    (camvid / "val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"split 'val': .*val\.txt names no image"):
        load("camvid", "val", root=camvid)
    (camvid / "testannot" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"testannot lacks 1 of the 1 .* b\.png"):
        load("camvid", "test", root=camvid)


def test_real_frames(camvid_root):
    """The counts of the release, and class frequencies as the scenes have them."""
    for split, count in {"train": 367, "val": 101, "test": 233}.items():
        assert len(load("camvid", split, root=camvid_root)) == count
    dataset = load("camvid", "train", root=camvid_root)
    counts = torch.zeros(256, dtype=torch.int64)
    for index in range(0, len(dataset), 40):
        image, mask = dataset[index]
        assert image.shape == (3, 360, 480)
        counts += torch.bincount(mask.flatten().long(), minlength=256)
        sky = image[:, mask == dataset.classes.index("sky")].float().mean()
        road = image[:, mask == dataset.classes.index("road")].float().mean()
        assert sky > road  # by day
    assert counts[11:255].sum() == 0
    largest = {dataset.classes[c] for c in counts[:11].topk(3).indices}
    assert largest <= {"building", "road", "sky", "tree"}


def test_the_recipe_trains_on_real_frames(camvid_root, mobilenet_weights, tmp_path):
    config = dataclasses.replace(recipes.camvid(), iterations=1, batch_size=2)
    runtime = Runtime(
        data_root=str(camvid_root), weights_path=str(mobilenet_weights),
        runs_dir=str(tmp_path), device="cpu", threads=1,
    )  # fmt: skip
    ((iteration, loss),) = train(config, runtime).curves["loss"]
    assert iteration == 1
    # The head starts at random: the classes are about equally likely.
    assert loss == pytest.approx(math.log(11), abs=1.0)
