"""The paper's recipes: what they say of themselves is so."""

import inspect
import re

import pytest

from emastudy.datasets.coco_stuff import COCO_STUFF_CLASSES
from emastudy.datasets.voc import VOC_CLASSES
from emastudy.study.recipes import PAPER_CLASSES, RECIPES
from emastudy.study.tables import estimate

# Recipe → classes, backbone, batch, iterations, learning rate, stride in training (FACTS: Sec. 6.1
# and the test chain of Sec. 6.2 of the paper).
PAPER = {
    "voc_ablation": (21, "resnet50", 12, 30_000, 0.009, 16),
    "voc_val": (21, "resnet101", 16, 30_000, 0.009, 16),
    "voc_val_released": (21, "resnet101", 16, 30_000, 0.009, 8),
    "voc_test_coco": (21, "resnet101", 16, 150_000, 0.009, 16),
    "voc_test_trainaug": (21, "resnet101", 16, 30_000, 0.001, 16),
    "voc_test": (21, "resnet101", 16, 30_000, 0.0001, 16),
    "pascal_context": (60, "resnet101", 16, 15_000, 0.009, 16),
    "coco_stuff": (171, "resnet101", 16, 30_000, 0.009, 8),
}


@pytest.mark.parametrize("name", PAPER)
def test_recipes_are_the_papers(name):
    config = RECIPES[name]()
    classes, *stated = PAPER[name]
    assert PAPER_CLASSES[name] == classes
    assert [
        config.backbone, config.batch_size, config.iterations, config.learning_rate,
        config.output_stride,
    ] == stated  # fmt: skip
    assert (config.eval_output_stride, config.crop_size, config.bn_momentum) == (8, 513, 3e-4)
    assert config.scales == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    assert (config.momentum, config.weight_decay, config.poly_power) == (0.9, 1e-4, 0.9)
    assert config.pretrained != bool(config.start_from)
    assert (config.loss_over == "all") == (name == "voc_val_released")


@pytest.mark.parametrize("name", PAPER)
def test_what_a_docstring_says_is_so(name):
    """Cost as counted, the command by its name, and a published number or that there is none."""
    text = inspect.getdoc(RECIPES[name])
    assert re.search(r"Expected: (\d\d\.\d+ % mIoU|no published number)", text)
    assert f"emastudy train {name} --data-root" in text
    stated = re.search(r"Cost: an estimated ([\d.]+)·10¹⁵ multiply-adds", text)
    counted = estimate(RECIPES[name](), num_classes=PAPER[name][0]).macs
    assert float(stated[1]) == pytest.approx(counted / 1e15, rel=2e-3)


def test_the_number_of_classes_is_the_datasets():
    assert PAPER_CLASSES["voc_val"] == len(VOC_CLASSES)
    assert PAPER_CLASSES["coco_stuff"] == len(COCO_STUFF_CLASSES)


def test_the_chain_hands_weights_on_with_its_own_arguments():
    for options in (
        {},
        {"seed": 3},
        {"scale": 0.5, "num_bases": 32},
        {"backbone": "resnet152", "head": "fcn"},
    ):
        first = RECIPES["voc_test_coco"](**options)
        second = RECIPES["voc_test_trainaug"](**options)
        third = RECIPES["voc_test"](**options)
        assert (second.start_from, third.start_from) == (first.id, second.id)
    splits = [c.train_split for c in (first, second, third)]
    assert splits == ["train", "trainaug", "trainval"]
