"""Units and backbones of one's own are like ours, and bad ones are refused by what is wrong."""

import logging

import pytest
import torch

from emastudy import networks, own
from emastudy.errors import InputError
from emastudy.networks.imported import import_backbone


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
        ("x * 1.0", "none of its parameters gets a gradient beside 0: conv.weight"),
        ("x + 0 * self.conv(x)", "none of its parameters gets a gradient beside 0: conv.weight"),
        ("self.conv(x).round()", "lets no gradient .* to its input, or one that is 0 everywhere"),
        ("self.conv(x) * 0", "lets no gradient .* to its input, or one that is 0 everywhere"),
        ("x / 0", "makes NaN or infinity of a random map"),
        (
            "self.con(x)",
            r"fails on a map of shape \(2, 16, 16, 12\) in training mode: .*my_module.py, line 9, "
            r"in Unit.forward \(return self.con\(x\)\): AttributeError: .*'con'",
        ),
        (
            "self.conv(x)[:, :, not self.training :]",
            r"makes \(1, 16, 15, 12\) of a map of shape \(1, 16, 16, 12\) in evaluation mode",
        ),
        ("self.conv(x) / self.training", "NaN or infinity of a random map in evaluation mode"),
        (
            "self.conv(x).unflatten(0, (2 if self.training else 3, -1)).flatten(0, 1)",
            r"fails on a map of shape \(1, 16, 16, 12\) in evaluation mode",
        ),
        (
            "self.conv(x)[..., : 12 if x.shape[2] == x.shape[3] else 16]",
            r"makes \(2, 16, 16, 12\) of a map of shape \(2, 16, 16, 16\) in training mode",
        ),
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
        (", width", r"cannot be made by \(16\): it is missing the option 'width'"),
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
        ("(width, 1), native_stride=4", r"says channels \(8, 1\) and stride 4; of 64×96 pixels"),
        ("(width, width), native_stride=8", r"makes maps of \(channels, height, .*\(8, 16, 24\)\]"),
    ],
)
def test_a_backbone_that_is_not_what_it_says_is_refused(my_module, change, message):
    text = my_module.read_text()
    my_module.write_text(text.replace("(width, width), native_stride=4", change))
    with pytest.raises(InputError, match=message):
        build("fcn", backbone="my_module:Small")
    with pytest.raises(InputError, match="'my_module:Mean' is .*; expected a class .* Backbone"):
        build("fcn", backbone="my_module:Mean")


def test_a_unit_may_start_as_the_identity(my_module):
    """The gradients of what a factor of 0 holds back are 0, that of the factor is not."""
    source = UNIT.format(returned="x + self.factor * self.conv(x)", more="")
    start = "        self.factor = nn.Parameter(torch.zeros(1))\n    def forward"
    my_module.write_text("import torch" + source.replace("    def forward", start))
    assert build("my_module:Unit").head.context.factor == 0


def test_a_unit_may_end_in_a_normalisation(my_module):
    """Whose sum over a batch does not depend on the input."""
    my_module.write_text(
        UNIT.format(returned="nn.functional.layer_norm(x + self.conv(x), x.shape[1:])", more="")
    )
    build("my_module:Unit")


def test_a_unit_that_mixes_the_images_of_a_batch_is_told(my_module, caplog):
    my_module.write_text(UNIT.format(returned="x + self.conv(x).softmax(dim=0)", more=""))
    build("my_module:Unit")
    assert "it mixes the images of a batch, and images are scored one by one" in caplog.text
    caplog.clear()
    my_module.write_text(UNIT.format(returned="x + self.conv(x).softmax(dim=1)", more=""))
    build("my_module:Unit")
    assert "mixes the images" not in caplog.text


def test_options_may_be_handed_on_to_another_unit(my_module):
    my_module.write_text(
        "from emastudy import EMAU\n"
        "class Unit(EMAU):\n"
        "    def __init__(self, channels, extra: int = 1, **options):\n"
        "        super().__init__(channels, **options)\n"
    )
    assert build("my_module:Unit", num_bases=5, extra=2).head.context.num_bases == 5
    with pytest.raises(InputError, match="num_bases is 'many'"):
        build("my_module:Unit", num_bases="many")
    with pytest.raises(InputError, match="cannot be made by .*unexpected keyword argument 'bases'"):
        build("my_module:Unit", bases=5)


def test_a_required_option_is_given_like_any_other(my_module):
    more = ", width: int"
    source = UNIT.format(returned="self.width * self.conv(x)", more=more)
    my_module.write_text(
        source.replace("super().__init__()", "super().__init__(); self.width = width")
    )
    assert build("my_module:Unit", width=3).head.context.width == 3
    with pytest.raises(InputError, match=r"cannot be made by \(16\): .* missing .* 'width'"):
        build("my_module:Unit")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [("weight", "abc", "a finite number"), ("name", 3, "a name"), ("deep", 1, "true or false")],
)
@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_an_option_of_another_type_than_declared_is_refused(
    my_module, option, value, expected, future
):
    more = "weight: float = 1.0, name: str = '', deep: bool = False):"
    text = my_module.read_text().replace("weight: float = 1.0):", more)
    my_module.write_text(future + text)
    build("my_module:Mean", weight=2)
    with pytest.raises(InputError, match=f"{option} is {value!r}; expected {expected}"):
        build("my_module:Mean", **{option: value})
    with pytest.raises(
        InputError, match="'my_module:Small': width is 8.5; expected a whole number"
    ):
        build("fcn", backbone="my_module:Small", backbone_options={"width": 8.5})


def test_a_backbone_on_trial_stays_as_it_is(my_module):
    text = my_module.read_text().replace("nn.ReLU()", "nn.BatchNorm2d(width), nn.Dropout()")
    my_module.write_text(text)
    torch.manual_seed(0)
    tried, after = import_backbone("my_module:Small")(None), torch.rand(1)
    torch.manual_seed(0)
    untried, usual = own.load("my_module:Small")(None), torch.rand(1)
    assert after == usual
    torch.testing.assert_close(tried.state_dict(), untried.state_dict(), rtol=0, atol=0)
    assert all(module.training for module in tried.modules())


def test_a_backbone_that_fails_in_evaluation_is_refused(my_module):
    my_module.write_text(
        my_module.read_text()
        + """
    def forward(self, image):
        assert self.training, "only to be trained"
        return super().forward(image)
""".replace("    def", "class Bad(Small):\n    def")
    )
    with pytest.raises(
        InputError, match="64×96 in evaluation mode: .*in Bad.forward .*: only to be trained"
    ):
        build("fcn", backbone="my_module:Bad")


STATE = """
import torch
import torch.nn.functional as F
from torch import nn

class Unit(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.count, self.kept = nn.Conv2d(channels, channels, 1), 0, None
        self.factor = nn.Parameter(torch.zeros(1))
        {init}
    def forward(self, x):
        y = x + self.conv(x)
        {forward}
"""
CHANGING = "gives two different outputs for the same input in evaluation mode, with the same random"
LOST = "is not restored by its state_dict: a new one that has loaded that of a trained one gives"
COUNT = "self.count += self.training"
MEAN = "self.mean = 0.9 * self.mean + 0.1 * x.mean().detach() if self.training else self.mean"


@pytest.mark.parametrize(
    ("init", "forward", "message"),
    [
        ("", "self.count += 1; return y * self.count", CHANGING),
        ("", f"{COUNT}; return y * (1 + 0.1 * self.count)", LOST),
        ("", f"{COUNT}; return y + self.factor * self.count", LOST),
        ("self.mean = torch.zeros(1)", f"{MEAN}; return y + self.mean", LOST),
        (
            "self.register_buffer('mean', torch.zeros(1), persistent=False)",
            f"{MEAN}; return y + self.mean",
            LOST,
        ),
        ("self.drawn = torch.randn(channels, 1, 1)", "return y * self.drawn", LOST),
        ("self.convs = [nn.Conv2d(channels, channels, 1)]", "return self.convs[0](y)", LOST),
        (
            "",
            "self.kept = None if self.training else self.kept or self.conv.weight.sum().item()\n"
            "        return y + self.kept if self.kept else y + self.conv.weight.sum()",
            None,
        ),
        (
            "",
            "self.kept = self.kept or self.conv.weight.sum().item(); return y + self.kept",
            LOST,
        ),
        (
            "",
            "self.late = getattr(self, 'late', None) or nn.Conv2d(16, 16, 1)\n"
            "        return self.late(y)",
            "a new one cannot load .* all parameters and buffers in __init__.* key.*late.weight",
        ),
        ("self.register_buffer('mean', torch.zeros(1))", f"{MEAN}; return y + self.mean", None),
        ("self.drop = nn.Dropout(0.5)", "return self.drop(y)", None),
        ("self.norm = nn.BatchNorm2d(channels)", "return self.norm(y)", None),
    ],
)
def test_a_unit_is_what_its_checkpoint_says(my_module, init, forward, message):
    my_module.write_text(STATE.format(init=init, forward=forward))
    if message is None:
        build("my_module:Unit")
        return
    with pytest.raises(InputError, match="head 'my_module:Unit'.* " + message):
        build("my_module:Unit")


@pytest.mark.parametrize("forward", ["return F.dropout(y)", "return y + torch.randn_like(y)"])
def test_chance_in_evaluation_is_told(my_module, caplog, forward):
    """As forgetting ``self.training`` is; slots, say, may be drawn at random on purpose."""
    my_module.write_text(STATE.format(init="", forward=forward))
    before = torch.get_rng_state()
    build("my_module:Unit")
    assert "draws random numbers in evaluation mode" in caplog.text
    drawn = torch.rand(1)
    torch.set_rng_state(before)
    caplog.clear()
    my_module.write_text(STATE.format(init="", forward="return y"))
    build("my_module:Unit")
    assert "random" not in caplog.text
    assert torch.equal(drawn, torch.rand(1))  # the trial takes none of the run's numbers


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("Counting()", LOST),
        ("Double()", "makes maps in float64 of images in float32; it must keep the"),
        ("nn.LazyBatchNorm2d()", "leaves the shape of stages.1.2.weight, .* to its first pass"),
    ],
)
def test_a_backbone_is_what_its_checkpoint_says(my_module, stage, message):
    layers = """
class Counting(nn.Module):
    count = 0
    def forward(self, x):
        self.count += self.training
        return x + self.count

class Double(nn.Module):
    def forward(self, x):
        return x.double()
"""
    text = my_module.read_text().replace("class Small", layers + "\nclass Small")
    ends = "super().__init__(stages"
    my_module.write_text(text.replace(ends, f"stages[-1].append({stage}); {ends}"))
    with pytest.raises(InputError, match="backbone 'my_module:Small'.* " + message):
        build("fcn", backbone="my_module:Small")


@pytest.mark.parametrize(
    ("init", "forward", "message"),
    [
        ("", "return y.double()", r"makes float64 of a map of shape .* in float32; it must keep"),
        ("", "return y.half()", r"makes float16 of a map of shape .* in float32; it must keep"),
        ("", "return y if self.training else y.double()", "makes float64 .* in evaluation mode"),
        (
            "self.conv = nn.LazyConv2d(channels, 1)",
            "return y",
            "leaves the shape of conv.weight, conv.bias to its first pass, .* nn.Conv2d instead",
        ),
        ("self.double()", "return y", "fails on a map of shape .*in Unit.forward"),
    ],
)
def test_a_unit_keeps_the_dtype_and_has_shapes_at_once(my_module, init, forward, message):
    my_module.write_text(STATE.format(init=init, forward=forward))
    with pytest.raises(InputError, match="head 'my_module:Unit'.* " + message):
        build("my_module:Unit")
