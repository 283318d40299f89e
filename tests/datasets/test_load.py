"""Opening a dataset by name: its options are checked before it is built."""

import inspect
from typing import get_type_hints

import pytest
from layouts import make_coco_stuff_164k, make_context, make_folder, make_voc

from emastudy.datasets import DATASETS, check, load
from emastudy.options import _TYPES


@pytest.mark.parametrize("name", DATASETS)
def test_every_option_has_a_type_that_is_checked(name):
    kind = DATASETS[name]
    types = get_type_hints(kind.__init__)
    assert all(types[option] in _TYPES for option in inspect.signature(kind).parameters)


@pytest.mark.parametrize(
    ("name", "option", "value", "words"),
    [
        ("folder", "classes", "sound", "classes is 'sound'; expected a list of names"),
        ("folder", "classes", ["sound", False], "expected a list of names .*quote"),
        ("folder", "classes", [1, 2], "expected a list of names"),
        ("folder", "classes", {"sound": 0}, "expected a list of names"),
        ("folder", "classes", [], "each once"),
        ("folder", "classes", ["sound", "sound"], "each once"),
        ("folder", "complete", "no", "complete is 'no'; expected true or false"),
        ("folder", "colour", 1, "'folder' has no option 'colour'; it has classes, complete"),
        ("voc2012", "classes", "cat", "expected a list of names"),
        ("pascal_context", "background", "false", "background is 'false'; expected true or false"),
        ("pascal_context", "background", 1, "expected true or false"),
        ("coco_stuff_164k", "voc", "yes", "expected true or false"),
        ("scenes", "num_classes", "8", "num_classes is '8'; expected a whole number"),
        ("scenes", "num_classes", 8.0, "expected a whole number"),
        ("scenes", "size", True, "expected a whole number"),
        ("scenes", "noise", "0.3", "noise is '0.3'; expected a number"),
        ("scenes", "noise", None, "expected a number"),
        ("scenes", "noise", float("nan"), "noise is nan"),
    ],
)
def test_options_of_another_type_are_refused(tmp_path, name, option, value, words):
    makers = {
        "folder": make_folder, "voc2012": make_voc, "pascal_context": make_context,
        "coco_stuff_164k": make_coco_stuff_164k,
    }  # fmt: skip
    root = makers[name](tmp_path / "root") if name in makers else None
    with pytest.raises(ValueError, match=words):
        load(name, root=root, **{option: value})
    if root is not None and words != "each once" and option != "complete":
        with pytest.raises(ValueError, match=words):
            check(DATASETS[name], root, {option: value})


def test_a_list_of_classes_is_asked_for_without_load_too(tmp_path):
    make_folder(tmp_path)
    with pytest.raises(ValueError, match="classes is 'sound'; expected a list of names"):
        DATASETS["folder"](tmp_path, classes="sound")


def test_a_fault_of_a_dataset_is_not_taken_for_one_of_its_user(tmp_path, monkeypatch):
    def list_pairs(self, root, split):
        raise TypeError("a bug")

    monkeypatch.setattr(DATASETS["folder"], "list_pairs", list_pairs)
    root = make_folder(tmp_path)
    with pytest.raises(TypeError, match="a bug"):
        load("folder", root=root)
    with pytest.raises(TypeError, match="a bug"):
        check(DATASETS["folder"], root)
