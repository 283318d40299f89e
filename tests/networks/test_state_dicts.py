"""What others wrap around a state dict."""

import argparse

import pytest
import torch
from torch import nn

from emastudy import networks
from emastudy.networks.backbones import BACKBONES
from emastudy.networks.state_dicts import unwrap


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


STATE = network().state_dict()


def prefixed(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "saved",
    [
        STATE,
        {"net": STATE, "step": 7},
        {"state_dict": STATE, "optimizer": {"state": {0: {"momentum": torch.ones(4)}}}},
        {"checkpoint": {"model": STATE}, "epoch": 3},
        prefixed("module."),
        {"state_dict": prefixed("module.")},
        {**prefixed("module."), "n_averaged": torch.tensor(5)},  # AveragedModel
        prefixed("_orig_mod."),
        prefixed("module.backbone.") | prefixed("module.head.", {"weight": torch.ones(1)}),
        # Bare names win over a copy below: they are what was asked for.
        {**STATE, **prefixed("teacher.")},
    ],
)
def test_it_is_taken_off(saved):
    found = unwrap(saved, STATE)
    assert set(found) >= set(STATE)
    shapes = {name: found[name].shape for name in STATE}
    assert shapes == {name: value.shape for name, value in STATE.items()}


def test_real_wrappers_are_taken_off():
    model = torch.optim.swa_utils.AveragedModel(nn.DataParallel(network()))
    assert set(unwrap({"ema": model.state_dict()}, STATE)) == set(STATE)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"model": STATE, "model_ema": STATE}, r"more than once, under \['model'\] and \['mod"),
        ({**prefixed("encoder_q."), **prefixed("encoder_k.")}, "encoder_[qk]. and encoder_[qk]."),
        ({"state_dict": {}}, "it holds 'state_dict' and none of .* such as 0.weight"),
        ({}, "it holds nothing and none of"),
        ([1, 2], "it is a list, not a state dict"),
        (network(), "it is a Sequential, not a state dict; save network.state_dict"),
    ],
)
def test_what_cannot_be_told_is_refused_by_name(saved, message):
    with pytest.raises(ValueError, match=message):
        unwrap(saved, STATE)


def test_one_missing_is_left_to_the_caller_to_name():
    saved = {"net": prefixed("module.")}
    del saved["net"]["module.1.bias"]
    assert set(STATE) - set(unwrap(saved, STATE)) == {"1.bias"}


def test_the_released_network_is_unwrapped():
    def build():
        return networks.build(
            "emanet_released", backbone="resnet50", num_classes=2, channels=16, num_bases=4
        )

    with torch.no_grad():
        source = build()
        source.head.context.bases.mul_(2)
    state = networks.export_official_state_dict(source)
    for saved in ({"net": state, "step": 1}, prefixed("module.", state)):
        target = build()
        networks.load_official_state_dict(target, saved)
        assert target.head.context.bases.equal(source.head.context.bases)
    target = build()
    with pytest.raises(ValueError, match="lacks emau.conv1.bias;"):
        networks.load_official_state_dict(
            target, {"net": {k: v for k, v in state.items() if k != "emau.conv1.bias"}}
        )
    with pytest.raises(ValueError, match="more than once, under .'a'. and .'b'.; give one"):
        networks.load_official_state_dict(target, {"a": state, "b": state})


@pytest.fixture(scope="module")
def resnet():
    from torchvision.models import resnet18

    return resnet18().state_dict()


@pytest.mark.parametrize("wrap", ["state_dict", "module.", "backbone."])
def test_a_backbones_file_is_unwrapped(resnet, wrap, tmp_path):
    saved = prefixed(wrap, resnet) if wrap.endswith(".") else {wrap: resnet, "epoch": 3}
    torch.save(saved, tmp_path / "w.pth")
    backbone = BACKBONES["resnet18"](tmp_path / "w.pth")
    assert backbone.stages[0][0].weight.equal(resnet["conv1.weight"])


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"state_dict": {}}, "w.pth cannot be used: it holds 'state_dict' and none of the"),
        (torch.ones(3), "w.pth cannot be used: it is a Tensor, not a state dict"),
        (
            {"args": argparse.Namespace(lr=1)},
            r"holds more than tensors \(argparse.Namespace\), .* its state dict alone",
        ),
    ],
)
def test_a_backbones_file_that_cannot_be_used_says_why(saved, message, tmp_path):
    torch.save(saved, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        BACKBONES["resnet18"](tmp_path / "w.pth")


def test_a_damaged_file_is_told_from_one_that_holds_more(tmp_path):
    (tmp_path / "w.pth").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match="is no readable state dict .* fetch it again"):
        BACKBONES["resnet18"](tmp_path / "w.pth")
