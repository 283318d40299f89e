"""λ that is learnt, and λ that follows the image."""

import copy

import pytest
import torch

from emastudy import EMAU, em
from emastudy.em.gradients import critical_concentration


def make(**options):
    torch.manual_seed(0)
    return EMAU(8, 4, **options).double()


def features():
    return torch.randn(2, 8, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("gradient", ["one_step", "unrolled"])
@pytest.mark.parametrize("normalization", ["l2", "gaussian"])
def test_a_learnt_concentration_starts_as_the_fixed_one_and_learns(heads, gradient, normalization):
    options = {"heads": heads, "gradient": gradient, "concentration": 2.0}
    fixed = make(normalization=normalization, **options)
    unit = make(normalization=normalization, concentration_scale="learned", **options)
    torch.testing.assert_close(unit(features()), fixed(features()))
    assert set(unit.state_dict()) == {*fixed.state_dict(), "log_scale"}
    assert unit.log_scale.shape == (() if heads == 1 else (heads,))

    unit.eval()
    unit(features()).square().sum().backward()
    slope, step = unit.log_scale.grad.sum(), 1e-6  # of all heads moved together
    assert slope.abs() > 1e-6
    if gradient == "unrolled":
        with torch.no_grad():
            ends = []
            for sign in (1, -1):
                other = copy.deepcopy(unit)
                other.log_scale += sign * step
                ends.append(other(features()).square().sum())
        torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-5, atol=1e-6)


def test_heads_learn_a_concentration_each():
    unit = make(heads=2, gradient="unrolled", concentration_scale="learned").eval()
    with torch.no_grad():
        unit.log_scale.copy_(torch.tensor([2.0, 0.5]).log())
    z = unit.attend(features()).responsibilities
    for head, concentration in enumerate((2.0, 0.5)):
        one = make(heads=2, concentration=concentration).eval().attend(features())
        torch.testing.assert_close(z[:, head], one.responsibilities[:, head])


@pytest.mark.parametrize("fold", [True, False])
def test_a_learnt_concentration_is_that_of_folded_units_too(fold):
    unit = make(heads=2, gradient="unrolled", concentration_scale="learned").eval()
    unit.fold = fold
    large = torch.randn(1, 8, 19, 19, dtype=torch.float64)
    with torch.no_grad():
        unit.log_scale.copy_(torch.tensor([2.0, 0.5]).log())
        found = unit.attend(large).bases
        x, start = unit.em_input(large)
        for head, concentration in enumerate((2.0, 0.5)):
            expected = em.expectation_maximization(
                x[:, head], start[head], 3, concentration=concentration
            )
            torch.testing.assert_close(found[:, head], expected.bases)


@pytest.mark.parametrize("normalization", ["l2", "layer", "none", "gaussian"])
@pytest.mark.parametrize("heads", [1, 2])
def test_a_critical_concentration_is_that_of_each_image_and_head(normalization, heads):
    options = {"normalization": normalization, "heads": heads}
    unit = make(concentration_scale="critical", concentration=1.5, **options).eval()
    x, start = unit.em_input(features())
    expected = 1.5 * critical_concentration(x, normalization=normalization)
    assert expected.shape == ((2,) if heads == 1 else (2, 2))
    torch.testing.assert_close(unit.concentrations(x), expected)
    z = unit.attend(features()).responsibilities
    for index in torch.cartesian_prod(*map(torch.arange, expected.shape)).reshape(-1, x.ndim - 2):
        one, bases = x[tuple(index)], start if heads == 1 else start[index[1]]
        again = em.expectation_maximization(
            one, bases, 3, concentration=float(expected[tuple(index)]), normalization=normalization
        )
        torch.testing.assert_close(z[tuple(index)], again.responsibilities)


def test_with_a_critical_concentration_the_scale_of_conv1_does_not_matter():
    outputs = []
    for scale in (1.0, 7.0):
        unit = make(concentration_scale="critical", input_scale=scale, heads=2).train()
        outputs.append((unit(features()), unit.bases))
    for one, seven in zip(*outputs, strict=True):
        torch.testing.assert_close(one, seven, rtol=1e-5, atol=1e-6)  # weights are made in float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("normalization", ["l2", "gaussian"])
def test_a_critical_concentration_is_the_same_in_half_precision(dtype, normalization):
    unit = make(concentration_scale="critical", normalization=normalization, heads=2).float().eval()
    large = 50 * (1 + features().float())  # squares, summed over pixels, are beyond float16
    expected = unit.concentrations(unit.em_input(large)[0])
    half = copy.deepcopy(unit).to(dtype)
    with torch.autocast("cpu", dtype):
        found = [unit.concentrations(unit.em_input(large)[0])]
    found.append(half.concentrations(half.em_input(large.to(dtype))[0]))
    for one in found:
        torch.testing.assert_close(one, expected, rtol=16 * torch.finfo(dtype).eps, atol=0)


def test_bases_merge_below_a_multiple_of_one_and_part_above():
    unit = make(concentration_scale="critical", maintenance="fixed", num_iterations=300).eval()
    for multiple, merged in ((0.8, True), (3.0, False)):
        unit.concentration = multiple
        x, _ = unit.em_input(features())
        center = em.normalize(x.mean(dim=1, keepdim=True), "l2")[:1]
        unit.bases.copy_(em.normalize(center[0] + 0.01 * torch.randn(4, 8).double(), "l2"))
        bases = unit.attend(features()[:1]).bases[0]
        cosines = bases @ bases.T
        assert (cosines.min() > 1 - 1e-6) == merged
