"""What can neither be learnt nor scored is told before anything is trained."""

import re

import numpy as np
import pytest
from layouts import blocks, make_folder, make_voc, photograph, save_mask
from PIL import Image

from emastudy.datasets import DATASETS, Scenes, View, check, check_own, learnable, load
from emastudy.datasets.fingerprint import evenly_spaced
from emastudy.errors import InputError


def make(root, description, train, val):
    """A folder whose masks show the values given, in stripes of equal width."""
    root.mkdir(exist_ok=True)
    (root / "dataset.yaml").write_text(description)
    for split, masks in {"train": train, "val": val}.items():
        (root / "masks" / split).mkdir(parents=True)
        for index, values in enumerate(masks):
            photograph(root / "images" / split / f"{split}{index:03}.jpg", 10, 20)
            save_mask(root / "masks" / split / f"{split}{index:03}.png", blocks(values, 10, 20))
    return load("folder", "train", root=root), load("folder", "val", root=root)


TWO = "classes: [sound, crack]"


def test_a_sound_dataset_passes_without_a_word(tmp_path):
    assert learnable(*make(tmp_path, TWO, [[0, 1, 255], [0]], [[0, 0, 1]])) == []
    assert check(DATASETS["folder"], tmp_path).warnings == []


@pytest.mark.parametrize(
    ("description", "train", "val", "words"),
    [
        (
            "classes: {crack: 255}\nignore: 0", [[0, 255]], [[0, 255]],
            ["'folder' has one class, 'crack': nothing can be told apart", "background"],
        ),
        (
            TWO, [[0, 1]], [[255]],
            ["split 'val': no pixel of its 1 masks belongs to a class; 100.0 % of the pixels hav"],
        ),
        (TWO, [[255]], [[0, 1]], ["split 'train': no pixel of its 1 masks belongs to a class"]),
        (
            TWO, [[0, 0, 0, 255], [0]], [[0, 255]],
            [
                "split 'train': 'sound' is the only class in its 2 masks; 12.5 % of the pixels",
                "classes: {sound: 0, crack: 255}",
                "split 'val': 'sound' is the only class in its 1 masks; 50.0 % of the pixels",
            ],
        ),
        (TWO, [[0, 1]], [[0, 255]], ["split 'val': 'sound' is the only class in its 1 masks; 50"]),
        (
            "classes: {sound: 1, crack: 0}\nignore: 3", [[1, 3]], [[1, 0]],
            ["'sound' is the only class in its 1 masks", "classes: {sound: 1, crack: 3}"],
        ),
        (
            TWO + "\nignore: []", [[0], [0]], [[0, 1]],
            ["split 'train': 'sound' is the only class in its 2 masks"],
        ),
        (TWO, [[0, 1], [7, 0]], [[0, 1]], ["train001.png holds values that are no", "(7)", "0-1"]),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_or_scored_is_refused(tmp_path, description, train, val, words):
    data = make(tmp_path, description, train, val)
    with pytest.raises(InputError) as error:
        learnable(*data)
    for word in words:
        assert word in str(error.value)
    problems = "\n".join(check(DATASETS["folder"], tmp_path).problems)
    assert all(word in problems for word in words)


@pytest.mark.parametrize(
    ("description", "train", "val", "words"),
    [
        (
            "classes: [sound, crack, rust]", [[0, 1]], [[0, 1, 2]],
            "split 'train': 1 of 3 classes, 'rust', occur in none of its 1 masks",
        ),
        (TWO, [[0, 1]], [[0]], "split 'val': 1 of 2 classes, 'crack', occur in none of its 1 mask"),
        (
            "classes: [sound, crack, rust]", [[0, 1, 255, 255]], [[0, 1, 2]],
            "occur in none of its 1 masks; 50.0 % of the pixels have the value 255, ignored",
        ),
        # half of the masks were saved by another tool
        (TWO, [[0, 1], [0, 255]], [[0, 1]], "split 'train': in 1 of its 2 masks the value 255, ig"),
    ],
)  # fmt: skip
def test_what_is_odd_is_a_warning_with_figures(tmp_path, description, train, val, words):
    (warning,) = learnable(*make(tmp_path, description, train, val))
    assert words in warning
    report = check(DATASETS["folder"], tmp_path)
    assert report.problems == []
    assert warning in report.warnings


def test_a_rare_class_outside_of_the_sample_is_found(tmp_path):
    """Few masks are read; all of them before anything is refused."""
    masks = [[0]] * 20
    masks[7] = [0, 1]
    train, val = make(tmp_path, TWO, masks, [[0, 1]])
    assert learnable(train, val, masks=4) == []
    save_mask(train.pairs[7].mask, blocks([0], 10, 20))
    with pytest.raises(ValueError, match="'sound' is the only class in its 20 masks"):
        learnable(train, val, masks=4)


def test_a_sample_says_that_it_is_one(tmp_path):
    three = "classes: [sound, crack, rust]"
    train, val = make(tmp_path, three, [[0, 1]] * 20, [[0, 1, 2]])
    (warning,) = learnable(train, val, masks=4)
    assert "'rust', occur in none of 4 of its 20 masks" in warning


def test_masks_alone_are_read(tmp_path):
    train, val = make(tmp_path, TWO, [[0, 1]], [[0, 1]])
    train.pairs[0].image.write_bytes(b"")
    assert learnable(train, val) == []


def test_images_to_score_that_are_trained_on_are_named(tmp_path):
    train, _ = make(tmp_path, TWO, [[0, 1]] * 3, [[0, 1]])
    (warning,) = learnable(train, View(train, [2]))
    assert "1 of the 1 images of split 'train', train002.jpg the first, are in split" in warning


def test_equal_names_in_folders_of_their_own_are_different_images(tmp_path):
    root = make_folder(tmp_path)
    photograph(root / "images" / "val" / "a.jpg", 20, 30, seed=1)
    save_mask(root / "masks" / "val" / "a.png", blocks([0, 1], 20, 30))
    assert check(DATASETS["folder"], root).problems == []
    assert learnable(load("folder", root=root), load("folder", "val", root=root)) == []


def test_classes_left_out_on_purpose_do_not_count_as_ignored_by_mistake(tmp_path):
    root = make_voc(tmp_path / "VOC2012")
    for name in ("2007_000001", "2007_000002"):  # an aeroplane with its border
        save_mask(root / "SegmentationClass" / f"{name}.png", blocks([0, 1, 255, 0], 40, 60))
    save_mask(root / "SegmentationClass" / "2007_000001.png", blocks([0, 8], 40, 60))
    train = load("voc2012", root=root, classes=["background", "cat"])
    assert learnable(train) == []


def test_a_split_without_masks_cannot_be_scored(tmp_path):
    root = make_voc(tmp_path / "VOC2012")
    photograph(root / "JPEGImages" / "2008_000006.jpg", 30, 40)
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("2008_000006\n")
    train, test = (load("voc2012", split, root=root) for split in ("train", "test"))
    with pytest.raises(ValueError, match="split 'test' has no masks: it can only be predicted"):
        learnable(train, test)
    problems = check(DATASETS["voc2012"], root).problems
    assert [p for p in problems if "'test'" in p and "the official release has" not in p] == []


def test_drawn_datasets_pass():
    assert learnable(Scenes(num_images=3), Scenes("val", num_images=3)) == []


def test_every_problem_of_a_root_is_said_with_those_of_its_masks(tmp_path):
    make(tmp_path, TWO, [[0, 255]], [[0, 1]])
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(tmp_path / "masks/val/val000.png")
    problems = check(DATASETS["folder"], tmp_path).problems
    assert len(problems) == 2
    assert "val000.png is a RGB image" in problems[0]
    assert "is the only class" in problems[1]


OWN = """
import torch
from emastudy.datasets import SegmentationDataset

class MyData(SegmentationDataset):
    classes = ("a", "b", "c")
    def __init__(self, split="train"):
        self.training = split == "train"
    def __len__(self):
        return 70
    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(2 * index + self.training)
        image = torch.randint(256, (3, 8, 10), generator=draw, dtype=torch.uint8)
        mask = torch.arange(80).view(8, 10) % 3
        {change}
        return image, mask
"""


def own(my_module, change="pass"):
    my_module.write_text(OWN.format(change=change))
    return load("my_module:MyData", "train"), load("my_module:MyData", "val")


def test_sound_data_of_ones_own_pass_without_a_word(my_module):
    train, val = own(my_module)
    assert learnable(train, val) == []
    assert (train.split, val.split) == ("train", "val")
    report = check_own("my_module:MyData")
    assert report.problems == []
    # A split that the class does not know, and takes for another: nothing asks for it.
    (warning,) = report.warnings
    assert "70 of 70 images looked at of split 'test' are in split 'val' too" in warning


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("mask[:] = 1", "split 'train': 'b' is the only class in its 70 masks"),
        ("mask[:] = 255", "split 'train': no pixel of its 70 masks belongs to a class; 100.0 % of"),
        (
            "mask = mask if self.training else mask.fill_(255)",
            "split 'val': no pixel of its 70 masks belongs to a class; 100.0 % of",
        ),
        (
            "mask[:, :5], mask[:, 5:] = 1, 255",
            "'b' is the only class in its 70 masks; 50.0 % of the pixels have the value 255, "
            "ignored: if that is an object, give it a class",
        ),
        ("image = image // 255", "no value of 64 images of split 'train' is above 1; images are"),
        (
            "image = image.flip(-1) if index and torch.rand(()) < 0.5 else image",
            "of split 'train' differs each time it is read, .* training itself mirrors images",
        ),
        ("mask[0, 0] = 7 * (index == 69)", "item 69 of split 'train' has the value 7"),
        ("1 / (index - 69)", "item 69 of split 'train': .* division by zero"),
    ],
)
def test_data_of_ones_own_that_cannot_be_learnt_or_scored_are_refused(my_module, change, words):
    data = own(my_module, change)
    with pytest.raises(InputError, match=words):
        learnable(*data)
    problems = "\n".join(check_own("my_module:MyData").problems).replace("of 70 im", "of 64 im")
    assert re.search(words, problems)


def test_a_rare_class_of_ones_own_outside_of_the_sample_is_found(my_module):
    rare = min({*range(70)} - {*evenly_spaced(70, 64)})
    train, val = own(my_module, f"mask[:] = index == {rare}")
    assert [index for index in range(70) if train[index][1].any()] == [rare]
    (warning, _) = learnable(train, val)
    assert "split 'train': 1 of 3 classes, 'c', occur in none of its 70 masks" in warning


def test_images_of_ones_own_that_are_trained_on_and_scored_are_told(my_module):
    """A warning where it may be an experiment, a problem where data are checked."""
    said = "64 of 64 images looked at of split 'val' are in split 'train' too: scores on them say"
    (warning,) = learnable(*own(my_module, "image[:] = 3 * index"))
    assert said in warning
    assert said.replace("64", "70") in check_own("my_module:MyData").problems[0]


def test_a_test_split_of_ones_own_needs_no_labels(my_module):
    text = OWN.format(change="mask = mask.fill_(255) if self.test else mask")
    text = text.replace("self.training =", "self.test = split == 'test'; self.training =")
    my_module.write_text(text)
    report = check_own("my_module:MyData")
    assert "split 'test' has no labels: it can only be predicted" in report.warnings
