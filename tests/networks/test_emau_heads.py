"""Several heads against as many units of one head, and values of their own."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from emastudy import EMAU, em

KINDS = [
    {},
    {"maintenance": "fixed", "normalization": "gaussian"},
    {"maintenance": "learned", "gradient": "unrolled"},
    {"maintenance": "grid", "gradient": "one_step"},
    {"maintenance": "pixels", "gradient": "unrolled", "normalization": "none"},
    {"gradient": "unrolled", "normalization": "layer", "concentration": 2.0},
    {"gradient": "one_step", "num_iterations": 1},
]


def make(**options):
    torch.manual_seed(0)
    return EMAU(12, 4, **{"heads": 3, **options})


def one_head_units(unit, **options):
    """One for each head, to be given that head's channels of X."""
    units = []
    for head in range(3):
        one = EMAU(4, 4, **options)
        with torch.no_grad():
            one.conv1.weight.copy_(torch.eye(4)[..., None, None])
            one.conv1.bias.zero_()
            if unit.bases is not None:
                one.bases.copy_(unit.bases[head])
        units.append(one.to(unit.conv1.weight.dtype).train(unit.training))
    return units


def apart(unit, units, features, seed):
    """The output of a unit of several heads, from units of one head; these move their bases."""
    x = unit.conv1(features)
    v = x if unit.value is None else unit.value(features)
    estimates = []
    for one, own, values in zip(units, x.chunk(3, dim=1), v.chunk(3, dim=1), strict=True):
        torch.manual_seed(seed)
        z, means, _ = one.attend(own)
        torch.manual_seed(seed)
        one(own.detach())
        if unit.value is not None:
            means = torch.stack([
                torch.stack([(z[b, :, k] * values[b].flatten(1)).sum(1) / z[b, :, k].sum()
                             for k in range(4)])
                for b in range(len(z))
            ])  # fmt: skip
        estimates.append((z @ means).transpose(1, 2).reshape_as(own))
    return F.relu(features + unit.norm(unit.conv2(F.relu(torch.cat(estimates, dim=1)))))


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("value_conv", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (9, 11)])
def test_heads_are_units_on_groups_of_channels(options, value_conv, size):
    unit = make(value_conv=value_conv, **options).double().train()
    plain = copy.deepcopy(unit)
    units = one_head_units(unit, **options)
    features = torch.randn(2, 12, *size, dtype=torch.float64)
    ours, theirs = (features.clone().requires_grad_() for _ in range(2))
    torch.manual_seed(1)  # which pixels are drawn
    output = unit(ours)
    expected = apart(plain, units, theirs, seed=1)
    torch.testing.assert_close(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    for (name, a), b in zip(unit.named_parameters(), plain.parameters(), strict=True):
        if a.grad is not None and name != "bases":
            torch.testing.assert_close(a.grad, b.grad, msg=name)
    if unit.bases is not None:
        torch.testing.assert_close(unit.bases, torch.stack([one.bases for one in units]))
    if options.get("maintenance") == "learned":
        gradients = torch.stack([one.bases.grad for one in units])
        torch.testing.assert_close(unit.bases.grad, gradients)


def test_one_head_has_no_dimension_of_heads():
    unit = make(heads=1)
    features = torch.randn(2, 12, 3, 5)
    assert unit.bases.shape == (4, 12)
    assert [tensor.shape for tensor in unit.em_input(features)] == [(2, 15, 12), (4, 12)]
    assert unit.attend(features, trace=True).objective.shape == (2, 4)
    plain = EMAU(12, 4)
    assert list(unit.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("fold", [True, False])
def test_looking_inside_shows_every_head(fold):
    unit = make().eval()
    unit.fold = fold
    features = torch.randn(2, 12, 9, 11)
    assert unit.bases.shape == (3, 4, 4)
    x, start = unit.em_input(features)
    assert x.shape == (2, 3, 99, 4)
    assert start.equal(unit.bases)
    result = unit.attend(features, trace=True)
    shapes = [tensor.shape for tensor in result]
    assert shapes == [(2, 3, 99, 4), (2, 3, 4, 4), (2, 3, 4)]
    assert (result.objective.diff() > -1e-3).all()  # each head climbs
    grid = make(maintenance="grid")
    assert grid.bases is None
    assert grid.em_input(features)[1].shape == (2, 3, 4, 4)


def test_nothing_learns_less_with_heads_and_values_learn_though_z_is_a_constant():
    def unmoved(**options):
        unit = make(value_conv=True, **options).train()
        unit(torch.randn(2, 12, 5, 5)).square().sum().backward()
        return {name for name, p in unit.named_parameters() if p.grad is None or not p.grad.any()}

    assert unmoved() == {"conv1.weight", "conv1.bias"}
    for options in ({"gradient": "one_step"}, {"gradient": "unrolled"}, *KINDS[2:6]):
        assert unmoved(**options) == set()


def calls(unit, features):
    with FlopCounterMode(display=False) as counter:
        unit(features)
    return {name for name in ("conv1", "value") if f"EMAU.{name}" in counter.get_flop_counts()}


def test_convs_are_folded_where_that_saves_work():
    # N·(C - (H-1)·K·uses) > K·C·uses: 2T = 6 uses of X, one of V.
    torch.manual_seed(0)
    large, small = torch.randn(1, 32, 9, 11), torch.randn(1, 32, 2, 2)
    for heads, conv1 in ((1, set()), (2, set()), (4, {"conv1"})):
        assert calls(EMAU(32, 2, heads=heads), large) == conv1
    assert calls(EMAU(32, 2, heads=2, value_conv=True), large) == set()
    assert calls(EMAU(32, 2, heads=4, value_conv=True), large) == {"conv1"}
    assert calls(EMAU(32, 2, maintenance="grid", value_conv=True), large) == {"conv1"}
    assert calls(EMAU(32, 16, heads=4, value_conv=True), large) == {"conv1", "value"}
    assert calls(EMAU(32, 4, value_conv=True), small) == {"conv1", "value"}


@pytest.mark.parametrize("normalization", ["l2", "layer", "none", "gaussian"])
@pytest.mark.parametrize("gradient", ["detached", "unrolled"])
def test_folding_changes_no_output_no_gradient_and_no_bases(normalization, gradient):
    found = []
    for fold in (True, False):
        torch.manual_seed(0)
        options = {"heads": 2, "value_conv": True, "normalization": normalization}
        unit = EMAU(32, 2, gradient=gradient, **options).double().train()
        unit.fold = fold
        features = torch.randn(2, 32, 9, 7, dtype=torch.float64, requires_grad=True)
        assert calls(unit, features) == (set() if fold else {"conv1", "value"})
        output = unit(features)
        output.square().sum().backward()
        learnt = [unit.value.weight.grad, unit.value.bias.grad, unit.conv2.weight.grad]
        found.append([output, features.grad, *learnt, unit.bases])
    for folded, plain in zip(*found, strict=True):
        torch.testing.assert_close(folded, plain)


def test_features_that_heads_share_are_a_batch_dimension_of_size_one():
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(2, 1, 15, 5, generator=generator)
    weight, bias = torch.randn(3, 4, 5, generator=generator), torch.randn(3, 4, generator=generator)
    bases = torch.randn(3, 2, 4, generator=generator)
    x = torch.einsum("bnd,hcd->bhnc", y[:, 0], weight) + bias[:, None]
    for normalization in ("l2", "gaussian"):
        folded, plain = (
            em.expectation_maximization(given, bases, normalization=normalization)
            for given in (em.Projected(y, weight, bias), x)
        )
        for ours, theirs in zip(folded, plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_of_the_map_does_not_matter(layout):
    unit = make(value_conv=True, gradient="unrolled").eval()
    features = torch.randn(2, 12, 5, 7)
    expected = unit(features)
    torch.testing.assert_close(unit(features.contiguous(memory_format=layout)), expected)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (5, "heads is 5 and does not divide channels, 12; use one of 1, 2, 3, 4, 6, 12"),
        (0, "heads is 0; expected a whole number ≥ 1"),
    ],
)
def test_heads_that_do_not_divide_the_channels_are_named_with_those_that_do(heads, message):
    with pytest.raises(ValueError, match=message):
        EMAU(12, heads=heads)


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ((12, 5, 3), (12, 4, 3), r"\(3, 5, 4\).*\(3, 4, 4\), .*EMAU\(12, num_bases=5, heads=3\)"),
        ((12, 4, 1), (12, 4, 3), r"is \(H, K, C/H\); make it with EMAU\(12, num_bases=4\)"),
        ((12, 4, 2), (12, 4, 1), r"is \(K, C\); make it with EMAU\(12, num_bases=4, heads=2\)"),
    ],
)
def test_weights_of_other_heads_say_how_to_make_their_unit(theirs, ours, message):
    given, wanted = (
        EMAU(channels, bases, heads=heads) for channels, bases, heads in (theirs, ours)
    )
    with pytest.raises(RuntimeError, match=message):
        nn.Sequential(wanted).load_state_dict(nn.Sequential(given).state_dict())
