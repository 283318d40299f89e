"""Both releases of COCO-Stuff on tiny copies of their layouts."""

import numpy as np
import pytest
from layouts import blocks, make_coco_stuff, make_coco_stuff_164k
from PIL import Image
from scipy.io import savemat

from emastudy.datasets import IGNORE, load
from emastudy.datasets.voc import VOC_CLASSES, voc_color

# Ids of COCO: 1 person, 5 airplane, 13 stop sign (12 is empty), 92 the first stuff, 182 wood.
PERSON, AIRPLANE, STOP_SIGN, BANNER, WOOD = 0, 4, 11, 80, 170


def test_label_maps_of_the_10k(tmp_path):
    make_coco_stuff(tmp_path)
    dataset = load("coco_stuff", "train", root=tmp_path)
    assert len(dataset.classes) == 171
    named = {c: dataset.classes[c] for c in (PERSON, STOP_SIGN, BANNER, WOOD)}
    assert [*named.values()] == ["person", "stop sign", "banner", "wood"]
    expected = blocks([IGNORE, PERSON, STOP_SIGN, BANNER, WOOD], 30, 40)
    assert dataset[0][1].tolist() == expected.tolist()
    assert load("coco_stuff", "val", root=tmp_path).names == ["COCO_train2014_000000000081"]


def test_pixel_maps_of_the_164k(tmp_path):
    make_coco_stuff_164k(tmp_path / "dataset")
    dataset = load("coco_stuff_164k", "val", root=tmp_path)
    expected = blocks([PERSON, AIRPLANE, STOP_SIGN, BANNER, WOOD, IGNORE], 30, 40)
    assert dataset[0][1].tolist() == expected.tolist()
    assert dataset.classes == load("coco_stuff_164k", "train", root=tmp_path).classes


def test_pixel_maps_as_vocs_classes(tmp_path):
    """Stop sign, banner and wood are no object of VOC."""
    make_coco_stuff_164k(tmp_path)
    dataset = load("coco_stuff_164k", "train", root=tmp_path, voc=True)
    assert dataset.classes == VOC_CLASSES
    person, aeroplane = VOC_CLASSES.index("person"), VOC_CLASSES.index("aeroplane")
    assert dataset[0][1].tolist() == blocks([person, aeroplane, 0, 0, 0, 255], 30, 40).tolist()
    assert dataset.palette[15] == voc_color(15)


def test_every_voc_object_has_its_thing(tmp_path):
    make_coco_stuff_164k(tmp_path)
    maps = tmp_path / "annotations" / "train2017" / "000000000009.png"
    # COCO's ids of VOC's objects, in VOC's order, from COCO's list of categories.
    ids = [5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]
    Image.fromarray((blocks(ids, 30, 40) - 1).astype(np.uint8)).save(maps)
    mask = load("coco_stuff_164k", "train", root=tmp_path, voc=True)[0][1]
    assert mask[0].tolist() == blocks(range(1, 21), 1, 40)[0].tolist()


def test_ids_without_annotation_are_foreign(tmp_path):
    make_coco_stuff(tmp_path)
    path = tmp_path / "annotations" / "COCO_train2014_000000000077.mat"
    for value in (12, 183, 1000):  # street sign; beyond the last
        savemat(path, {"S": np.full((30, 40), value)})
        with pytest.raises(ValueError, match=rf"no coco_stuff class \({value}\)"):
            load("coco_stuff", "train", root=tmp_path)[0]


@pytest.mark.parametrize("value", [-1, 1.5])
def test_what_is_no_label_map_is_refused(tmp_path, value):
    make_coco_stuff(tmp_path)
    path = tmp_path / "annotations" / "COCO_train2014_000000000077.mat"
    savemat(path, {"S": np.full((30, 40), value)})
    with pytest.raises(ValueError, match="no matrix of whole numbers"):
        load("coco_stuff", "train", root=tmp_path)[0]
    savemat(path, {"T": np.zeros((30, 40))})
    with pytest.raises(ValueError, match=r"77\.mat cannot be read as a MATLAB label map S"):
        load("coco_stuff", "train", root=tmp_path)[0]


def test_a_pixel_map_without_photograph_is_named(tmp_path):
    make_coco_stuff_164k(tmp_path)
    (tmp_path / "images" / "val2017" / "000000000139.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of the 1 files .* 000000000139\.jpg"):
        load("coco_stuff_164k", "val", root=tmp_path)


@pytest.mark.parametrize("name", ["coco_stuff", "coco_stuff_164k"])
def test_wrong_roots_are_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="holds no COCO-Stuff"):
        load(name, root=tmp_path)
