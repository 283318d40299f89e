"""Units and backbones of one's own are like ours, and bad ones are refused by what is wrong."""

import logging

import pytest
import torch

from emastudy import networks
from emastudy.errors import InputError


def build(head, **options):
    torch.manual_seed(0)
    defaults = {"backbone": "small_resnet", "num_classes": 3, "output_stride": 4, "channels": 16}
    return networks.build(head, **{**defaults, **options})


def test_a_unit_by_import_path_is_the_unit_by_its_name(my_module):
    """The very same numbers: what is drawn while a unit is tried leaves no trace."""
    ours, own = (build(head, num_bases=4) for head in ("ema", "my_module:EMAU"))
    torch.testing.assert_close(own.state_dict(), ours.state_dict(), rtol=0, atol=0)
    assert networks.head_defaults("my_module:EMAU") == networks.head_defaults("ema")
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(own.eval()(image), ours.eval()(image), rtol=0, atol=0)


def test_options_are_read_from_the_signature(my_module):
    assert networks.head_defaults("my_module:Mean")["weight"] == 1.0
    assert build("my_module:Mean", weight=0.25).head.context.weight == 0.25
    with pytest.raises(InputError, match="no option 'wait'; it has .*, dropout, .*, weight"):
        build("my_module:Mean", wait=0.25)


def test_a_network_is_built_without_data_too(my_module):
    with torch.device("meta"):
        network = build("my_module:Mean", backbone="my_module:Small")
    assert all(parameter.is_meta for parameter in network.parameters())


UNIT = """
from torch import nn

class Unit(nn.Module):
    def __init__(self, channels{more}):
        super().__init__()
        self.conv, self.other = nn.Conv2d(channels, channels, 1), nn.Conv2d(1, 1, 1)
    def forward(self, x):
        return {returned}
"""


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            "self.conv(x).transpose(2, 3)",
            r"makes \(2, 16, 12, 16\) of a map of shape \(2, 16, 16, 1",
        ),
        ("x[:, :-1]", "it must keep the shape"),
        ("(x, x)", "makes a tuple of a map of shape .* must keep the shape"),
        ("self.conv(x.detach())", "lets no gradient through to its input"),
        ("x.detach()", "lets no gradient through to its input"),
        ("x * 1.0", "none of its parameters gets a gradient: conv.weight"),
        ("x / 0", "makes NaN or infinity of a random map"),
        ("self.con(x)", r"fails on a map of shape \(2, 16, 16, 12\): AttributeError: .*'con'"),
        ("x.view(2, 16, 256)", "fails on a map of shape .*: RuntimeError: "),
    ],
)
def test_a_bad_unit_is_refused_by_what_is_wrong(my_module, returned, message):
    my_module.write_text(UNIT.format(returned=returned, more=""))
    with pytest.raises(InputError, match="head 'my_module:Unit'.* " + message):
        build("my_module:Unit")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (", width", r"cannot be made by \(16\): TypeError: .*'width'"),
        (", dropout=0.1", "has an option 'dropout', which the head around it has too"),
    ],
)
def test_a_unit_that_cannot_be_made_is_refused(my_module, more, message):
    my_module.write_text(UNIT.format(returned="self.conv(x)", more=more))
    with pytest.raises(InputError, match=message):
        build("my_module:Unit")


def test_a_parameter_without_a_gradient_is_told(my_module, caplog):
    my_module.write_text(UNIT.format(returned="self.conv(x)", more=""))
    with caplog.at_level(logging.WARNING):
        build("my_module:Unit")
    assert "no gradient reaches other.weight, other.bias" in caplog.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("Unit = 3", "is 3; expected a class derived from Module"),
        ("def Unit(channels): ...", "is <function Unit .*; expected a class derived from Module"),
        ("class Unit: ...", "expected a class derived from Module"),
        (
            "import torch\nclass Unit(torch.nn.Module):\n def __init__(self): super().__init__()",
            "takes no channels; it is called as NAME",
        ),
    ],
)
def test_what_is_no_unit_is_refused(my_module, source, message):
    my_module.write_text(source)
    with pytest.raises(InputError, match=message):
        build("my_module:Unit")


def test_a_backbone_of_ones_own_dilates_like_ours(my_module):
    network = build("fcn", backbone="my_module:Small", backbone_options={"width": 12})
    assert network.backbone.channels == (12, 12)
    maps = network.backbone(torch.randn(1, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(1, 12, 16, 16), (1, 12, 8, 8)]
    with pytest.raises(InputError, match="no option 'wide'; it has width"):
        build("fcn", backbone="my_module:Small", backbone_options={"wide": 12})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("(width, 1), native_stride=4", r"says channels \(8, 1\) and stride 4; of 64×64 pixels"),
        ("(width, width), native_stride=8", r"makes maps of \(channels, height\) .*\(8, 16\)\]"),
    ],
)
def test_a_backbone_that_is_not_what_it_says_is_refused(my_module, change, message):
    text = my_module.read_text()
    my_module.write_text(text.replace("(width, width), native_stride=4", change))
    with pytest.raises(InputError, match=message):
        build("fcn", backbone="my_module:Small")
    with pytest.raises(InputError, match="'my_module:Mean' is .*; expected a class .* Backbone"):
        build("fcn", backbone="my_module:Mean")
