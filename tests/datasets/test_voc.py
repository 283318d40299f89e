"""PASCAL VOC on a tiny copy of its official layout, and on real photographs where present."""

import shutil

import numpy as np
import pytest
import torch
from layouts import blocks, make_sbd, photograph, save_mask
from PIL import Image

from emastudy.datasets import load
from emastudy.datasets.base import voc_color
from emastudy.datasets.voc import VOC_CLASSES

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


@pytest.fixture
def voc_with_sbd(voc_root):
    """VOC and SBD beside each other: SBD holds a train image, a val image and two of its own."""
    for name in ("2008_000004", "2008_000005"):
        photograph(voc_root / "JPEGImages" / f"{name}.jpg", 30, 40)
    shutil.rmtree(voc_root / "SegmentationClassAug")
    (voc_root / "ImageSets" / "Segmentation" / "trainaug.txt").unlink()
    mask = blocks([0, 7], 30, 40)
    make_sbd(
        voc_root.parent,
        {"2008_000005": mask, "2007_000001": blocks([0, 7], 40, 60)},
        {"2008_000004": mask, "2008_000003": blocks([0, 7], 64, 64)},
    )
    return voc_root


def test_trainaug_is_computed_from_sbd(voc_with_sbd):
    """(VOC train ∪ SBD) minus VOC val; VOC's own masks where there are some."""
    dataset = load("voc2012", "trainaug", root=voc_with_sbd)
    assert dataset.names == ["2007_000001", "2007_000002", "2008_000004", "2008_000005"]
    train = load("voc2012", "train", root=voc_with_sbd)
    assert torch.equal(dataset[0][1], train[0][1])
    image, mask = dataset[3]
    assert image.shape[1:] == mask.shape
    np.testing.assert_array_equal(mask, blocks([0, 7], 30, 40))


def test_a_list_of_trainaug_goes_before_the_computed_one(voc_with_sbd):
    path = voc_with_sbd / "ImageSets" / "Segmentation" / "trainaug.txt"
    path.write_text("2008_000005\n2007_000002\n")
    dataset = load("voc2012", "trainaug", root=voc_with_sbd)
    assert dataset.names == ["2008_000005", "2007_000002"]
    assert set(dataset[0][1].unique().tolist()) == {0, 7}


def test_trainaug_is_computed_from_a_ready_folder(voc_root):
    (voc_root / "ImageSets" / "Segmentation" / "trainaug.txt").unlink()
    photograph(voc_root / "JPEGImages" / "2009_000001.jpg", 30, 40)
    save_mask(voc_root / "SegmentationClassAug" / "2009_000001.png", blocks([0, 3], 30, 40))
    names = load("voc2012", "trainaug", root=voc_root).names
    assert names == ["2007_000001", "2007_000002", "2009_000001"]  # and not val's 2008_000003

    shutil.rmtree(voc_root / "SegmentationClassAug")
    with pytest.raises(FileNotFoundError, match="needs SBD: .*neither SegmentationClassAug"):
        load("voc2012", "trainaug", root=voc_root)


def test_damaged_label_maps_of_sbd_are_named(voc_with_sbd):
    dataset = load("voc2012", "trainaug", root=voc_with_sbd)
    path = voc_with_sbd.parent / "benchmark_RELEASE" / "dataset" / "cls" / "2008_000005.mat"
    whole = path.read_bytes()
    for content in (b"", b"no MATLAB file", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"2008_000005\.mat cannot be read as a MATLAB"):
            dataset[3]


def test_the_test_split_can_be_seen_but_not_scored(voc_root):
    photograph(voc_root / "JPEGImages" / "2008_000006.jpg", 30, 40)
    (voc_root / "ImageSets" / "Segmentation" / "test.txt").write_text("2008_000006\n")
    (item,) = [*load("voc2012", "test", root=voc_root, classes=ANIMALS)]
    assert item[0].shape == (3, 30, 40)
    assert item[1].shape == (30, 40)
    assert (item[1] == 255).all()


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
    with pytest.raises(
        ValueError, match=r"2007_000001\.png holds values that are no voc2012 class"
    ):
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
