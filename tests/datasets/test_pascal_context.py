"""PASCAL Context on a tiny copy of its layout."""

import pytest
from layouts import blocks, make_context

from emastudy.datasets import IGNORE, load


@pytest.fixture
def context(tmp_path):
    return make_context(tmp_path / "VOCdevkit" / "VOC2010")


def test_the_other_400_labels_are_ignored(context, tmp_path):
    dataset = load("pascal_context", "train", root=tmp_path)
    assert len(dataset) == 2
    assert len(dataset.classes) == 59
    # Stored are aeroplane, accordion, wood, wool, unlabelled; aeroplane is first and wood last.
    expected = blocks([0, IGNORE, 58, IGNORE, IGNORE], 30, 40)
    assert dataset[0][1].tolist() == expected.tolist()


def test_background_is_one_more_class_on_demand(context):
    dataset = load("pascal_context", "val", root=context, background=True)
    assert dataset.classes[:2] == ("background", "aeroplane")
    assert len(dataset.classes) == 60
    assert dataset[0][1].tolist() == blocks([1, 0, 59, 0, 0], 30, 40).tolist()
    assert dataset.palette[0] == (0, 0, 0)


def test_classes_are_in_the_order_of_their_labels(context):
    classes = load("pascal_context", "val", root=context).classes
    assert list(classes) == sorted(classes)
    assert {"bedclothes", "shelves", "tvmonitor", "platform", "keyboard"} < set(classes)


def test_own_lists_go_before_vocs(context):
    lists = context / "ImageSets" / "SegmentationContext"
    lists.mkdir()
    (lists / "train.txt").write_text("2010_000001\n")
    assert load("pascal_context", "train", root=context).names == ["2010_000001"]


def test_a_list_of_other_labels_is_refused(context):
    (context / "labels.txt").write_text("1: accordion\n2: aeroplane\n9: ball\n")
    with pytest.raises(ValueError, match=r"labels\.txt calls label 9 'ball', not 'bag'"):
        load("pascal_context", "train", root=context)


def test_bad_roots_and_splits_are_named(context, tmp_path):
    with pytest.raises(ValueError, match="pascal_context has train, val"):
        load("pascal_context", "test", root=context)
    with pytest.raises(FileNotFoundError, match="holds no PASCAL Context"):
        load("pascal_context", root=context / "trainval")
