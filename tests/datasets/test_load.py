"""Opening a dataset by name: its options are checked before it is built."""

import inspect
from typing import get_type_hints

import pytest
from layouts import make_coco_stuff_164k, make_context, make_folder, make_voc
from torchvision.tv_tensors import Image, Mask

from emastudy.datasets import DATASETS, check, load
from emastudy.engine.loading import Loader
from emastudy.errors import InputError
from emastudy.options import _test

OWN = """
import torch
from emastudy.datasets import SegmentationDataset
from emastudy.datasets.base import require_split

class MyData(SegmentationDataset):
    classes = ("a", "b", "c")
    def __init__(self, split="train", length: int = 4):
        require_split(split, "MyData", ("train", "val"))
        self.split, self.length = split, length
    def __len__(self):
        return self.length
    def __getitem__(self, index):
        image = torch.zeros(3, 8 + index, 10, dtype=torch.uint8)
        mask = torch.arange(image[0].numel()).view(image.shape[1:]) % 3
        return {returned}
"""


@pytest.mark.parametrize("name", DATASETS)
def test_every_option_has_a_type_that_is_checked(name):
    kind = DATASETS[name]
    types = get_type_hints(kind.__init__)
    assert all(_test(types[option]) for option in inspect.signature(kind).parameters)


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
        ("scenes", "noise", "0.3", "noise is '0.3'; expected a finite number"),
        ("scenes", "noise", None, "expected a finite number"),
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


def test_plain_tensors_of_ones_own_are_made_images_and_masks(my_module):
    my_module.write_text(OWN.format(returned="image, mask"))
    image, mask = load("my_module:MyData")[1]
    assert (type(image), type(mask)) == (Image, Mask)
    assert (image.shape, mask.shape) == ((3, 9, 10), (9, 10))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{}[index]", r"first item cannot be read: .*in MyData.__getitem__ \(.*\): KeyError: 0"),
        ("image", "item 0 of split 'train' is a Tensor; expected a pair of image and mask"),
        (
            "image / 255, mask",
            r"has a float32 tensor of shape \(3, 8, 10\) as image; expected a ui",
        ),
        ("image[0], mask", r"shape \(8, 10\) as image; expected .* \(3, H, W\)"),
        ("None, mask", "has a NoneType as image"),
        ("image, mask.float()", r"has a float32 tensor .* as mask; expected a uint8 tensor"),
        (
            "image, mask[1:]",
            r"of shape \(7, 10\) as mask of .* \(3, 8, 10\); make them of one size",
        ),
        ("image, mask + 1", "has the value 3 in its mask; expected 0 to 2, .* or 255 for"),
        ("image, mask - 1", "has the value -1 in its mask"),
    ],
)
def test_the_first_item_of_ones_own_data_is_examined(my_module, returned, message):
    my_module.write_text(OWN.format(returned=returned))
    with pytest.raises(InputError, match=message):
        load("my_module:MyData")


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("mean = 0.5", "'my_module:MyData': mean is 0.5; expected three numbers, for red, green"),
        ("mean = (0.5,)", r"mean is \(0.5,\); expected three numbers"),
        ("mean = (123.7, 116.3, 103.5)", r"expected .* from 0 to 1 \(full scale = 1\)"),
        ("std = 0.25", "std is 0.25; expected three numbers"),
        ("std = (0.2, 0.0, 0.2)", "std is .*; expected three numbers"),
        ("std = None", "std is None; expected three numbers"),
        ("classes = 'road'", "classes is 'road'; expected a tuple of names"),
        ("classes = 3", "classes is 3; expected a tuple of names"),
        ("classes = ('a', 'b', 'a')", "'my_module:MyData': classes names a twice"),
        ("classes = tuple(map(str, range(256)))", "has 256 classes; masks have room for 255"),
        ("palette = [(0, 0, 0)]", "palette is .*; expected 3 triples of whole numbers, red, green"),
        ("palette = [(0, 0, 256)] * 3", "palette is .*; expected 3 triples"),
        ("palette = 'viridis'", "palette is 'viridis'; expected 3 triples"),
        ("palette = [(0.1, 0.5, 1.0)] * 3", "palette is .*; expected 3 triples of whole numbers"),
    ],
)
def test_attributes_of_ones_own_data_are_examined(my_module, attribute, message):
    source = OWN.format(returned="image, mask")
    my_module.write_text(source.replace("    def __init__", f"    {attribute}\n    def __init__"))
    with pytest.raises(InputError, match=message):
        load("my_module:MyData")
    my_module.write_text(
        source.replace("    def", "    mean = std = [0.5, 0.25, 0.25]\n    def", 1)
    )
    load("my_module:MyData")


def test_data_of_ones_own_may_derive_from_somebody_elses(my_module):
    source = OWN.format(returned="image, mask + 7 * (index == 2)")
    source = source.replace("MyData(SegmentationDataset)", "Theirs").replace('"MyData"', '"Theirs"')
    my_module.write_text(
        source
        + "class MyData(Theirs, SegmentationDataset):\n"
        + "    def __init__(self, split='train'):\n"
        + "        super().__init__(split)\n"
        + "        self.palette = [(0, 0, 9)] * 3\n"
        + "class Second(MyData):\n    pass\n"
    )
    for name in ("MyData", "Second"):
        data = load(f"my_module:{name}")
        assert (data.name, type(data[0][0]), data.palette) == (name, Image, [(0, 0, 9)] * 3)
        with pytest.raises(InputError, match=f"{name!r}: item 2 of split 'train' has the value 7"):
            data[2]


def test_an_item_of_ones_own_that_is_another_each_time_is_refused(my_module):
    my_module.write_text(OWN.format(returned="torch.randint_like(image, 255), mask"))
    with pytest.raises(InputError, match="'MyData': item 0 of split 'train' differs each time"):
        load("my_module:MyData")


def test_later_items_of_ones_own_data_are_examined_when_they_are_read(my_module):
    my_module.write_text(OWN.format(returned="image, mask + 7 * (index == 2)"))
    data = load("my_module:MyData", "val")
    assert len(data[1]) == 2
    with pytest.raises(InputError, match="'MyData': item 2 of split 'val' has the value 7 in its"):
        data[2]
    loader = Loader(data, batch_size=None, num_workers=1)
    with pytest.raises(
        InputError, match="^dataset 'MyData': item 2 of split 'val' has the value 7"
    ):
        list(loader)


def test_data_of_ones_own_without_images_or_with_wrong_options_are_refused(my_module):
    my_module.write_text(OWN.format(returned="image, mask"))
    with pytest.raises(InputError, match="'my_module:MyData' has no images in split 'train'"):
        load("my_module:MyData", length=0)
    with pytest.raises(InputError, match="dataset is 'my_module', .* has my_module:MyData"):
        load("my_module")
    with pytest.raises(InputError, match="length is 'a'; expected a whole number"):
        load("my_module:MyData", length="a")
