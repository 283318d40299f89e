"""Somebody's own images and masks."""

import dataclasses
import pickle

import numpy as np
import pytest
from layouts import blocks, make_folder, photograph, save_mask
from PIL import Image

from emastudy.datasets import IGNORE, View, load
from emastudy.datasets.voc import voc_color
from emastudy.engine import Runtime, evaluate, train
from emastudy.engine.build import load_dataset
from emastudy.study import recipes


def test_folders_for_splits(tmp_path):
    make_folder(tmp_path)
    dataset = load("folder", "train", root=tmp_path)
    assert dataset.names == ["a", "b"]
    assert dataset.classes == ("sound", "crack")
    assert dataset.colors == (voc_color(0), voc_color(1))
    image, mask = dataset[0]
    assert image.shape == (3, 20, 30)
    assert mask.tolist() == blocks([0, 1, IGNORE], 20, 30).tolist()
    assert load("folder", "val", root=tmp_path).names == ["c"]


def test_lists_values_colours_and_other_folders(tmp_path):
    """Two classes at 0 and 255, sixteen bits, lists with and without endings, nested names."""
    (tmp_path / "labels" / "north").mkdir(parents=True)
    for name in ("north/1 a", "north/2"):
        photograph(tmp_path / "photos" / f"{name}.png", 20, 30)
        mask = blocks([0, 255, 1000], 20, 30).astype(np.uint16)
        Image.fromarray(mask).save(tmp_path / "labels" / f"{name}.png")
    (tmp_path / "mine.txt").write_text("north/2.png\nnorth/1 a\n")
    (tmp_path / "dataset.yaml").write_text(
        "classes: {sound: 0, crack: 255}\ncolors: {crack: [255, 0, 10]}\nignore: [1000]\n"
        "images: photos\nmasks: labels\nsplits: {val: mine.txt}\n"
    )
    dataset = load("folder", "val", root=tmp_path)
    assert dataset.names == ["north/2", "north/1 a"]
    assert dataset[1][1].tolist() == blocks([0, 1, IGNORE], 20, 30).tolist()
    assert dataset.colors == ((0, 0, 0), (255, 0, 10))
    for one in (dataset, View(dataset), pickle.loads(pickle.dumps(dataset))):
        assert one.palette == [(0, 0, 0), (255, 0, 10)]
    with pytest.raises(ValueError, match="split is 'train'; .* has val"):
        load("folder", "train", root=tmp_path)


def test_without_an_ignored_value_255_is_foreign(tmp_path):
    make_folder(tmp_path, "classes: [sound, crack]\nignore: []\n")
    with pytest.raises(ValueError, match=r"a\.png holds values that are no folder class \(255\)"):
        load("folder", "train", root=tmp_path)[0]


def test_own_data_trains_and_scores_at_once(tmp_path):
    root = make_folder(tmp_path / "data")
    config = dataclasses.replace(
        recipes.scenes("fcn"), dataset="folder", eval_images=0, iterations=2, batch_size=2,
        crop_size=32,
    )  # fmt: skip
    runtime = Runtime(data_root=str(root), runs_dir=str(tmp_path / "runs"), device="cpu", threads=1)
    network = train(config, runtime).network
    scores = evaluate(network, load_dataset(config, "val", runtime), **runtime.scoring(config))
    assert [*scores.iou] == ["sound", "crack"]
    assert 0 <= scores.miou <= 100


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("classes: [a, b", "is not YAML"),
        ("classes:\n\t- a", "is not YAML: .*cannot start any token"),
        ("classes: [a, ]\nimages: 3", "images is 3; expected the name of a folder"),
        ("classes: [a, null]", "list of 1 to 254 names"),
        ("classes: [a, [b]]", "list of 1 to 254 names"),
        ("classes: {1: 0, '1': 1}", "one twice"),
        ("images: photos", r"at least classes: \[NAME"),
        ("- a", r"at least classes: \[NAME"),
        ("classes: [a]\ncolour: {}", "unknown colour; there are classes, colors"),
        ("classes: []", "list of 1 to 254 names"),
        ("classes: a", "list of 1 to 254 names"),
        ("classes: [yes, no]", "quote names such as 'no'"),
        ("classes: [a, a]", "one twice"),
        ("classes: {a: -1}", "list of 1 to 254 names"),
        ("classes: {a: 1, b: 1}", "the same mask value"),
        ("classes: [a, b]\nignore: 1", "that no class has"),
        ("classes: [a]\nignore: none", "that no class has"),
        ("classes: [a]\ncolors: {b: [0, 0, 0]}", "colors has to be"),
        ("classes: [a]\ncolors: {a: [0, 0, 256]}", "colors has to be"),
        ("classes: [a]\nsplits: [train]", "splits has to be"),
    ],
)
def test_bad_descriptions_are_refused(tmp_path, description, message):
    make_folder(tmp_path, description)
    with pytest.raises(ValueError, match=message):
        load("folder", root=tmp_path)


def test_bad_roots_are_named(tmp_path):
    (tmp_path / "dataset.yml").touch()
    with pytest.raises(FileNotFoundError, match=r"has no dataset\.yaml, but dataset\.yml\. Expec"):
        load("folder", root=tmp_path)
    make_folder(tmp_path)
    save_mask(tmp_path / "masks" / "train" / "d.png", blocks([0], 20, 30))
    with pytest.raises(
        FileNotFoundError, match=r"images/train lacks 1 of the 3 .* d\.jpg .*d\.png is"
    ):
        load("folder", root=tmp_path)
    photograph(tmp_path / "images" / "train" / "a.png", 20, 30)
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png have the same name"):
        load("folder", root=tmp_path)
    (tmp_path / "images").rename(tmp_path / "photos")
    with pytest.raises(FileNotFoundError, match="has no folder for a split"):
        load("folder", root=tmp_path)
