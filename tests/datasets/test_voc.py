"""PASCAL VOC on a tiny copy of its official layout, and on real photographs where present."""

import numpy as np
import pytest
import torch
from conftest import save_mask
from PIL import Image

from emastudy.datasets import load
from emastudy.datasets.voc import VOC_CLASSES, voc_color

ANIMALS = ["background", "cat", "dog", "person"]


def test_items_are_images_and_class_indices(voc_root):
    dataset = load("voc2012", "train", root=voc_root)
    assert len(dataset) == 2
    assert dataset.classes == VOC_CLASSES
    image, mask = dataset[0]
    assert image.shape == (3, 40, 60)
    assert mask.shape == (40, 60)
    stored = np.array(Image.open(voc_root / "SegmentationClass" / "2007_000001.png"))
    np.testing.assert_array_equal(mask, stored)
    photograph = np.array(Image.open(voc_root / "JPEGImages" / "2007_000001.jpg"))
    np.testing.assert_array_equal(image.permute(1, 2, 0), photograph)


def test_a_subset_of_classes_is_renumbered_and_the_rest_ignored(voc_root):
    full = load("voc2012", "val", root=voc_root)[0][1]
    part = load("voc2012", "val", root=voc_root, classes=["person", "background", "dog"])[0][1]
    for old, new in ((15, 0), (0, 1), (12, 2), (8, 255), (255, 255)):
        assert (part[full == old] == new).all()


def test_trainaug_reads_the_augmented_masks(voc_root):
    save_mask(voc_root / "SegmentationClassAug" / "2007_000001.png", np.full((40, 60), 3))
    assert (load("voc2012", "trainaug", root=voc_root)[0][1] == 3).all()
    assert not (load("voc2012", "train", root=voc_root)[0][1] == 3).all()


@pytest.mark.parametrize("parent", ["VOCdevkit/VOC2012", "VOC2012"])
def test_the_folder_above_is_found_too(voc_root, tmp_path, parent):
    above = tmp_path / "above"
    (above / parent).parent.mkdir(parents=True)
    voc_root.rename(above / parent)
    assert len(load("voc2012", "val", root=above)) == 1


def test_palette_is_vocs():
    # Values of the official devkit's colour map.
    known = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {index: voc_color(index) for index in known} == known


def test_real_photographs(animals_root):
    dataset = load("voc2012", "val", root=animals_root, classes=ANIMALS)
    assert len(dataset) == 445
    assert len(load("voc2012", "trainaug", root=animals_root)) == 2831
    image, mask = dataset[17]
    assert image.shape[1:] == mask.shape
    assert set(mask.unique().tolist()) <= {0, 1, 2, 3, 255}


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        load("voc2012", root=tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="is a file, not a folder"):
        load("voc2012", root=tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="holds no VOC 2012"):
        load("voc2012", root=tmp_path)
    with pytest.raises(ValueError, match="say where with root"):
        load("voc2012")


def test_a_half_unpacked_root_says_what_lacks(voc_root):
    for folder in ("SegmentationClass", "SegmentationClassAug"):
        (voc_root / folder).rename(voc_root / f"not-{folder}")
    with pytest.raises(FileNotFoundError, match="lacks SegmentationClass or .*half unpacked"):
        load("voc2012", "train", root=voc_root)


@pytest.mark.parametrize(
    "file", ["JPEGImages/2007_000002.jpg", "SegmentationClass/2007_000002.png"]
)
def test_an_image_without_mask_or_a_mask_without_image_is_named(voc_root, file):
    (voc_root / file).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of the 2 files .* 2007_000002"):
        load("voc2012", "train", root=voc_root)


def test_an_unknown_split_lists_those_there(voc_root):
    with pytest.raises(FileNotFoundError, match="lists there: train, trainaug, val"):
        load("voc2012", "minival", root=voc_root)
    (voc_root / "ImageSets" / "Segmentation" / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match="names no image"):
        load("voc2012", "none", root=voc_root)


def test_an_unknown_class_is_named(voc_root):
    with pytest.raises(ValueError, match="no 'unicorn'"):
        load("voc2012", root=voc_root, classes=["cat", "unicorn"])


def test_damaged_and_wrong_files_are_named(voc_root):
    mask = voc_root / "SegmentationClass" / "2007_000001.png"
    photograph = voc_root / "JPEGImages" / "2007_000001.jpg"
    dataset = load("voc2012", "train", root=voc_root)

    save_mask(mask, np.full((40, 60), 200))
    with pytest.raises(ValueError, match=r"2007_000001\.png holds values that are no VOC class"):
        dataset[0]
    save_mask(mask, np.zeros((40, 61)))
    with pytest.raises(ValueError, match="61×40 pixels but .* 60×40"):
        dataset[0]
    Image.new("RGB", (60, 40)).save(mask)
    with pytest.raises(ValueError, match="is a RGB image; expected one class index"):
        dataset[0]
    mask.write_bytes(b"no image at all")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        dataset[0]
    photograph.write_bytes(photograph.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"2007_000001\.jpg cannot be read .* truncated"):
        dataset[0]
    assert torch.is_tensor(dataset[1][0])  # the others still read
