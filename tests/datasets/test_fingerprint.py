"""Which data a run saw: told apart in words, wherever they lie."""

import dataclasses
import json
import os
import shutil

import pytest
from layouts import blocks, make_folder, make_voc, photograph, save_mask
from PIL import Image

from emastudy.datasets import Fingerprint, Scenes, View, corrupt, differences, load


def taken(root, split="train", name="folder", **options):
    return load(name, split, root=root, **options).fingerprint()


def test_copies_are_the_same_and_survive_json(tmp_path):
    root = make_folder(tmp_path / "one")
    before = taken(root)
    shutil.copytree(root, tmp_path / "two" / "deep")
    os.utime(tmp_path / "two" / "deep" / "images" / "train" / "a.jpg", (0, 0))
    (tmp_path / "two" / "deep" / "dataset.yaml").write_text(
        "classes: {sound: 0, crack: 1}\ncolors: {crack: [1, 2, 3]}\n"
    )
    after = taken(tmp_path / "two" / "deep")
    assert after == before
    assert differences(after, before) == []
    assert Fingerprint.from_dict(json.loads(json.dumps(dataclasses.asdict(before)))) == before
    assert len(json.dumps(dataclasses.asdict(before))) < 1000


def describe_again(text):
    return lambda root: (root / "dataset.yaml").write_text(text)


def another_image(root):
    photograph(root / "images" / "train" / "a.jpg", 20, 30, seed=5)


def another_mask(root):
    save_mask(root / "masks" / "train" / "b.png", blocks([1, 0, 255], 20, 30))


def one_more(root):
    photograph(root / "images" / "train" / "z.jpg", 20, 30)
    save_mask(root / "masks" / "train" / "z.png", blocks([1, 0, 255], 20, 30))


def rename(root):
    for path in (root / "images/train/b.jpg", root / "masks/train/b.png"):
        path.rename(path.with_stem("c"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (describe_again("classes: [crack, sound]"), "classes: crack, sound instead of sound, cra"),
        (describe_again("classes: {crack: 0, sound: 1}"), "classes: crack, sound instead of sound"),
        (describe_again("classes: [sound, crack, rust]"), "classes: sound, crack, rust instead of"),
        (describe_again("classes: {sound: 1, crack: 0}"), "mask values mean other classes"),
        (describe_again("classes: [sound, crack]\nignore: [7, 255]"), "ignored: 7, 255 instead of"),
        (another_image, "files of other content, e.g. a"),
        (another_mask, "files of other content, e.g. b"),
        (one_more, "3 images instead of 2"),
        (rename, "images of other names, e.g. c"),
    ],
)
def test_other_data_are_told_in_words(tmp_path, change, words):
    root = make_folder(tmp_path)
    before = taken(root)
    change(root)
    found = differences(taken(root), before)
    assert any(words in difference for difference in found), found


def test_splits_and_subsets_of_classes_differ(tmp_path):
    root = make_voc(tmp_path)
    whole = taken(root, name="voc2012")
    assert "split: 'val' instead of 'train'" in differences(taken(root, "val", "voc2012"), whole)
    part = taken(root, name="voc2012", classes=["cat", "dog"])
    assert differences(part, whole)[0].startswith("classes: cat, dog instead of background, aerop")


@pytest.fixture
def thirty(tmp_path):
    """A dataset with more files than are sampled, all of one size on disk."""
    (tmp_path / "dataset.yaml").write_text("classes: [a, b]")
    for folder in ("images", "masks"):
        (tmp_path / folder / "train").mkdir(parents=True)
    for index in range(30):
        photograph(tmp_path / "images" / "train" / f"{index:02}.bmp", 4, 6)
        save_mask(tmp_path / "masks" / "train" / f"{index:02}.bmp", blocks([0, 1], 4, 6))
    return tmp_path


def other_mask(root):
    save_mask(root / "masks" / "train" / "01.bmp", blocks([1, 0], 4, 6))


def other_photograph(root):
    photograph(root / "images" / "train" / "01.bmp", 4, 6, seed=1)


def grey_photograph(root):
    Image.new("L", (6, 4)).save(root / "images" / "train" / "01.bmp")


@pytest.mark.parametrize("change", [other_mask, other_photograph, grey_photograph])
def test_a_file_outside_of_the_sample_counts_too(thirty, change):
    before = taken(thirty)
    assert len(before.samples) == 8
    assert (before.samples[0][0], before.samples[-1][0]) == ("00", "29")
    sizes = {path: path.stat().st_size for path in thirty.rglob("*.bmp")}
    change(thirty)
    unchanged = {path: path.stat().st_size for path in thirty.rglob("*.bmp")} == sizes
    assert unchanged == (change is not grey_photograph)
    assert differences(taken(thirty), before) == ["images or masks of other content"]


def test_of_many_masks_some_are_read_and_of_large_images_none(thirty, monkeypatch):
    monkeypatch.setattr("emastudy.datasets.files._SMALL", 0)
    before = taken(thirty)
    other_photograph(thirty)
    assert taken(thirty) == before
    other_mask(thirty)
    assert taken(thirty) != before
    monkeypatch.setattr("emastudy.datasets.files._MANY", 8)
    before = taken(thirty)
    save_mask(thirty / "masks" / "train" / "02.bmp", blocks([1, 0], 4, 6))
    assert taken(thirty) == before


def test_what_was_kept_before_bytes_were_read_is_compared_by_the_rest(thirty):
    kept = dataclasses.asdict(taken(thirty))
    del kept["files"]
    before = Fingerprint.from_dict(kept)
    other_mask(thirty)
    assert differences(taken(thirty), before) == []
    grey_photograph(thirty)
    assert differences(taken(thirty), before) == ["images or masks of other content"]


def test_a_part_of_a_dataset_is_told_by_the_masks_of_the_whole(thirty):
    before = View(load("folder", root=thirty), [0, 29]).fingerprint()
    other_mask(thirty)
    after = View(load("folder", root=thirty), [0, 29]).fingerprint()
    assert differences(after, before) == ["images or masks of other content"]


def test_scenes_are_told_by_their_parameters():
    before = Scenes(num_images=5).fingerprint()
    assert Scenes(num_images=5).fingerprint() == before
    assert differences(Scenes(num_images=5, seed=1).fingerprint(), before) == [
        "images or masks of other content"
    ]
    assert differences(Scenes(num_images=6).fingerprint(), before) == ["6 images instead of 5"]
    assert "classes" in differences(Scenes(num_images=5, num_classes=3).fingerprint(), before)[0]


def test_a_view_is_told_from_what_it_shows():
    scenes = Scenes(num_images=5)
    same, part = View(scenes).fingerprint(), View(scenes, [3, 1]).fingerprint()
    assert View(Scenes(num_images=5)).fingerprint() == same
    assert "2 images instead of 5" in differences(part, same)
    noisy = View(scenes, change=lambda image, i: corrupt(image, i, kind="noise", severity=1))
    assert "files of other content, e.g. 0, 1, 2" in differences(noisy.fingerprint(), same)
