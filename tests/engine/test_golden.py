"""The net under every number: losses, defaults and the version of the numbers, frozen."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import torch
from torchvision.models import mobilenet_v2

from emastudy import networks
from emastudy.engine import NUMBERS_VERSION, RunConfig, Runtime, train
from emastudy.networks.backbones import BACKBONES
from emastudy.networks.heads import HEADS
from emastudy.study.recipes import scenes

# Golden: the loss of the first iteration, and the mean over the first three, on one CPU thread in
# float32 (torch 2.14 on an Intel Xeon; an AMD EPYC has the same). To change one on purpose, add the
# new numbers under the next version.
LOSSES = {
    1: {
        "fcn": (2.1618393, 2.1174943),
        "ema detached": (2.2860504, 2.2508203),
        "ema one_step": (2.2860504, 2.2332340),
        "ema unrolled": (2.2860504, 2.2329565),
        "non_local": (2.1817154, 2.1034483),
        "frozen features": (2.0888247, 2.0841111),
    }
}
# In other kernels of MKL, oneDNN and torch these differ by 1.5e-6 at most. Where gradients pass
# through EM they differ by more, up to 6e-5: some pixel lies on a ReLU's edge, and falls on its
# other side. A learning rate 2 % higher moves the means on scenes by 6e-4 or more.
NEAR, NEAR_THROUGH_EM = 3e-6, 1.5e-4

same_torch = pytest.mark.skipif(
    not torch.__version__.startswith("2.14."),
    reason="the golden losses are of torch 2.14; in other versions dropout draws other masks",
)
RUNS = {
    "fcn": scenes("fcn"),
    "ema detached": scenes("ema"),
    "ema one_step": scenes("ema", gradient="one_step"),
    "ema unrolled": scenes("ema", gradient="unrolled"),
    "non_local": scenes("non_local"),
}
# The recipe's crops when the numbers were frozen; they are 65 now.
RUNS = {name: dataclasses.replace(config, crop_size=64) for name, config in RUNS.items()}


@pytest.fixture
def runtime(tmp_path):
    return Runtime(runs_dir=str(tmp_path), device="cpu", threads=1)


def require_golden(name, config, runtime):
    first, mean = LOSSES[NUMBERS_VERSION][name]
    through_em = config.head_options.get("gradient", "detached") != "detached"
    near = NEAR_THROUGH_EM if through_em else NEAR
    assert loss(config, 1, runtime) == pytest.approx(first, abs=NEAR)
    assert loss(config, 3, runtime) == pytest.approx(mean, abs=near)


def loss(config, iterations, runtime):
    short = dataclasses.replace(config, iterations=iterations, eval_images=4, precision="float32")
    ((iteration, value),) = train(short, runtime).curves["loss"]
    assert iteration == iterations
    return value


@same_torch
@pytest.mark.parametrize("name", RUNS)
def test_losses_on_scenes_are_frozen(name, runtime):
    require_golden(name, RUNS[name], runtime)


@same_torch
def test_the_loss_on_frozen_features_is_frozen(runtime, tmp_path):
    torch.manual_seed(7)
    torch.save(mobilenet_v2().features.state_dict(), tmp_path / "weights.pth")
    config = RunConfig(
        dataset_options={"num_images": 10},
        head="ema",
        head_options={"channels": 16, "num_bases": 4},
        backbone="mobilenet_v2",
        pretrained=True,
        frozen_backbone=True,
        output_stride=16,
        eval_output_stride=8,
        crop_size=65,
        batch_size=4,
    )
    runtime = dataclasses.replace(runtime, weights_path=str(tmp_path / "weights.pth"))
    require_golden("frozen features", config, runtime)
    for run_dir in tmp_path.glob("scenes-*"):
        shutil.rmtree(run_dir)  # its features, beside it, are found
    require_golden("frozen features", config, runtime)


def test_defaults_of_heads_and_backbones_are_frozen():
    """A config keeps only what differs from these: another default would be another run."""
    context = {"channels": 512, "detail_channels": 0, "dropout": 0.1, "extra_channels": 0}
    ema = {
        "concentration": 1.0, "concentration_scale": "fixed", "gradient": "detached", "heads": 1,
        "input_scale": 1.0, "maintenance": "moving_average", "momentum": 0.9,
        "normalization": "l2", "num_bases": 64, "num_iterations": 3, "value_conv": False,
        "zero_init": False,
    }  # fmt: skip
    aspp = {"channels": 256, "dropout": 0.1, "image_pooling": True, "rate": 6}
    psa = {"attention_channels": 512, "channels": 256, "flow": "both", "window": 65}
    heads = {
        "a2": {**context, "num_bases": 64, "zero_init": True},
        "criss_cross": {**context, "num_recurrences": 2},
        "deeplabv3": {**aspp, "detail_channels": 0},
        "deeplabv3plus": {**aspp, "detail_channels": 48},
        "efficient": {**context, "zero_init": True},
        "ema": {**context, **ema},
        "emanet_released": {**context, **ema, "extra_channels": 256},
        "external": {**context, "num_memories": 64},
        "fcn": context,
        "hamburger": {**context, "num_bases": 64, "num_iterations": 6},
        "no_attention": {**context, "zero_init": False},
        "non_local": {**context, "kernel": "embedded_gaussian", "zero_init": True},
        "nystrom": {**context, "grid": 8, "num_iterations": 6, "zero_init": True},
        "ocr": {"channels": 512, "dropout": 0.1},
        "psanet": {**psa, "dropout": 0.1},
        "pspnet": {"channels": 512, "dropout": 0.1},
        "slots": {**context, "num_slots": 64, "num_iterations": 3},
        "windowed_ema": {
            **context,
            "concentration": 1.0,
            "concentration_scale": "learned",
            "gradient": "unrolled",
            "heads": 8,
            "momentum": 0.9,
            "num_bases": 64,
            "num_iterations": 3,
            "windows": (1, 2),
            "zero_init": False,
        },
    }
    resnet = {"deep_stem": False, "multi_grid": False, "stages": 4}
    backbones = {name: resnet for name in BACKBONES if name.startswith("resnet")}
    backbones |= {"mobilenet_v2": {}, "small_resnet": {}}
    assert {name: networks.head_defaults(name) for name in HEADS} == heads
    assert {name: networks.backbone_defaults(name) for name in BACKBONES} == backbones


def test_every_version_of_the_numbers_is_explained():
    assert max(LOSSES) == NUMBERS_VERSION
    _, section = (
        (Path(__file__).parents[2] / "CHANGELOG.md")
        .read_text()
        .split("## Changes that change numbers", 1)
    )
    versions = re.findall(r"^- \*\*Version (\d+)\*\*", section.partition("\n## ")[0], re.MULTILINE)
    assert sorted(map(int, versions)) == sorted(LOSSES)
