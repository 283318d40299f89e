"""A check of a root finds every problem and changes nothing."""

import hashlib
import shutil

import numpy as np
import pytest
from layouts import (
    blocks,
    make_camvid,
    make_coco_stuff,
    make_coco_stuff_164k,
    make_context,
    make_folder,
    make_sbd,
    make_voc,
    photograph,
    save_mask,
)
from PIL import Image

from emastudy.datasets import DATASETS, FileDataset, check, describe

MAKERS = {
    "voc2012": make_voc,
    "camvid": make_camvid,
    "pascal_context": make_context,
    "coco_stuff": make_coco_stuff,
    "coco_stuff_164k": make_coco_stuff_164k,
    "folder": make_folder,
}


def snapshot(root):
    """Names, contents and times of everything under a folder."""
    return {
        path: (
            path.stat().st_mtime_ns,
            path.is_file() and hashlib.sha256(path.read_bytes()).digest(),
        )
        for path in sorted(root.rglob("*"))
    }


def problems(name, root, **options):
    """What a check says beyond the official counts, which no tiny dataset has."""
    found = check(DATASETS[name], root, options).problems
    return [problem for problem in found if "the official release has" not in problem]


@pytest.mark.parametrize("name", MAKERS)
def test_whole_roots_pass_unchanged(name, tmp_path):
    root = MAKERS[name](tmp_path / "root")
    for path in (root, *root.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    before = snapshot(root)
    try:
        assert problems(name, root) == []
    finally:
        for path in (root, *root.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
    assert snapshot(root) == before


def test_every_kind_of_problem_is_reported_at_once(tmp_path):
    root = make_folder(tmp_path)
    images, masks = root / "images" / "train", root / "masks" / "train"
    for name in "defghij":
        photograph(images / f"{name}.jpg", 20, 30)
        save_mask(masks / f"{name}.png", blocks([0, 1], 20, 30))
    (images / "a.jpg").write_bytes((images / "a.jpg").read_bytes()[:300])  # truncated
    save_mask(masks / "b.png", blocks([0, 1], 20, 31))  # another size
    Image.new("RGB", (30, 20)).save(masks / "d.png")  # colours
    save_mask(masks / "e.png", blocks([0, 200, 7], 20, 30))  # foreign labels
    (images / "f.jpg").unlink()
    (masks / "g.png").unlink()
    (images / "h.jpg").write_bytes(b"")
    (masks / "h.png").write_bytes(b"")  # two problems of one pair
    before = snapshot(root)

    found = problems("folder", root)
    expected = [
        "images/train/a.jpg cannot be read",
        "masks/train/b.png is 31×20 pixels but",
        "masks/train/d.png is a RGB image",
        "masks/train/e.png holds values that are no folder class (7, 200)",
        "images/train/f.jpg is missing",
        "masks/train/g.png is missing",
        "images/train/h.jpg cannot be read",
        "masks/train/h.png cannot be read",
    ]
    assert len(found) == len(expected)
    for text in expected:
        assert sum(text in problem for problem in found) == 1, text
    assert snapshot(root) == before


def test_lists_are_checked(tmp_path):
    root = make_voc(tmp_path / "VOC2012")
    lists = root / "ImageSets" / "Segmentation"
    (lists / "trainaug.txt").write_text("2007_000001\n2007_000001\n2008_000003\n2099_000001\n")
    found = problems("voc2012", root)
    listed = f"({lists / 'trainaug.txt'}, line"
    assert f"split 'trainaug' names 2007_000001 more than once {listed} 2)" in found
    assert "2008_000003 is in split 'val' and in 'trainaug'" in found
    for path in ("JPEGImages/2099_000001.jpg", "SegmentationClassAug/2099_000001.png"):
        assert f"{root / path} is missing {listed} 4)" in found
    assert len(found) == 4

    (lists / "val.txt").write_text("")
    (lists / "train.txt").unlink()
    found = problems("voc2012", root)
    assert any("val.txt names no image" in problem for problem in found)
    assert any("split 'train': there is no" in problem for problem in found)


def test_counts_are_compared_with_the_release(tmp_path):
    report = check(DATASETS["camvid"], make_camvid(tmp_path))
    assert report.counts == {"train": 2, "val": 1, "test": 1}
    assert report.problems == [
        "split 'train' has 2 images; the official release has 367",
        "split 'val' has 1 images; the official release has 101",
        "split 'test' has 1 images; the official release has 233",
    ]


def test_optional_splits_may_be_absent(tmp_path):
    report = check(DATASETS["voc2012"], make_voc(tmp_path / "VOC2012"))
    assert report.counts == {"train": 2, "val": 1, "trainaug": 2}
    assert set(report.absent) == {"trainval", "test"}
    assert "test.txt" in report.absent["test"]
    assert all("test" not in problem for problem in report.problems)


def test_computed_splits_are_checked_with_the_files_of_sbd(tmp_path):
    root = make_voc(tmp_path / "VOC2012")
    shutil.rmtree(root / "SegmentationClassAug")
    (root / "ImageSets" / "Segmentation" / "trainaug.txt").unlink()
    photograph(root / "JPEGImages" / "2008_000004.jpg", 30, 40)
    sbd = make_sbd(tmp_path, {"2008_000004": blocks([0, 21], 30, 40)}, {})
    (sbd / "val.txt").write_text("2008_000009\n")
    found = problems("voc2012", root)
    assert len(found) == 3
    assert any("2008_000004.mat holds values that are no voc2012 class (21)" in p for p in found)
    assert any("JPEGImages/2008_000009.jpg is missing" in p for p in found)
    assert any("cls/2008_000009.mat is missing" in p for p in found)


def test_a_missing_folder_is_one_problem(tmp_path):
    root = make_context(tmp_path)
    shutil.rmtree(root / "JPEGImages")
    assert problems("pascal_context", root) == [
        f"folder {root / 'JPEGImages'} is missing, with 3 files"
    ]


@pytest.mark.parametrize("name", MAKERS)
def test_wrong_roots_are_one_problem(name, tmp_path):
    assert len(problems(name, tmp_path / "nowhere")) == 1
    assert len(problems(name, tmp_path)) == 1


def test_a_split_that_training_asks_for_is_a_warning(tmp_path):
    root = make_folder(tmp_path)
    for kind in ("images", "masks"):
        (root / kind / "val").rename(root / kind / "valid")
    report = check(DATASETS["folder"], root)
    assert report.problems == []
    assert report.warnings == [
        "there is no split 'val', which training asks for; there are train, valid"
    ]


def test_options_reach_the_dataset(tmp_path):
    root = make_coco_stuff_164k(tmp_path)
    assert problems("coco_stuff_164k", root, voc=True) == []
    assert problems("coco_stuff_164k", root, classes=["unicorn"])[0].startswith("classes: ")
    with pytest.raises(ValueError, match="'coco_stuff_164k' has no option 'background'"):
        check(DATASETS["coco_stuff_164k"], root, {"background": True})


@pytest.mark.parametrize("name", [n for n, k in DATASETS.items() if issubclass(k, FileDataset)])
def test_every_dataset_states_what_it_is(name):
    kind = DATASETS[name]
    assert kind.name == name
    assert len(kind.colors) == len(kind.all_classes) == len(set(kind.all_classes))
    if kind.all_classes:
        assert len(set(kind.colors)) == len(kind.colors)
        stored = set(kind.stored.values()) - {255}
        assert stored == set(range(len(kind.all_classes)))
        assert {"train", "val"} <= set(kind.counts)
        assert np.array(kind.default_palette(kind.all_classes)).shape == (len(kind.all_classes), 3)
    assert kind.optional <= set(kind.counts)
    text = describe(kind)
    for stated in (kind.licence, kind.citation, kind.layout, *kind.all_classes):
        assert stated in text


def test_real_frames_pass(camvid_root):
    report = check(DATASETS["camvid"], camvid_root)
    assert report.problems == []
    assert sum(report.counts.values()) == 701
