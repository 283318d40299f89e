"""Jacobians and gradient regimes against finite differences and against each other."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from jaxtyping import TypeCheckError
from torch.autograd import gradcheck

from emastudy import EMAU, em
from emastudy.em.gradients import (
    input_gradient,
    jacobian,
    reestimate,
    spectral_radius,
    unrolled_gradient_norms,
)

ALL = ("l2", "layer", "none", "gaussian")
quickly = settings(deadline=None, max_examples=8)


def clusters(seed, *, pixels=24, num_bases=2, channels=3, batch=()):
    """Pixels around K orthogonal directions and bases near them: EM converges fast."""
    generator = torch.Generator().manual_seed(seed)
    centers = 2 * torch.eye(channels, dtype=torch.float64)[:num_bases].expand(
        *batch, num_bases, channels
    )
    noise = torch.randn(*batch, pixels, channels, generator=generator, dtype=torch.float64)
    x = centers[..., torch.arange(pixels) % num_bases, :] + 0.4 * noise
    return x, em.normalize(centers + 0.1, "l2")


@pytest.mark.parametrize("normalization", ALL)
@given(seed=st.integers(0, 10**6), concentration=st.sampled_from([0.3, 1.0, 3.0]))
@quickly
def test_jacobian_is_that_of_one_iteration(normalization, seed, concentration):
    x, bases = clusters(seed, batch=(2,))
    options = {"concentration": concentration, "normalization": normalization}
    ours = jacobian(x, bases, **options)
    assert ours.shape == (2, 6, 6)
    width = 1e-6
    for column, direction in enumerate(torch.eye(6, dtype=torch.float64).reshape(6, 2, 3)):
        ends = [
            em.expectation_maximization(x, bases + sign * width * direction, 1, **options).bases
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]).flatten(-2) / (2 * width)
        torch.testing.assert_close(ours[..., column], slope, rtol=1e-4, atol=1e-6)


@given(seed=st.integers(0, 10**6), concentration=st.sampled_from([0.3, 1.0, 3.0]))
@quickly
def test_closed_form_of_the_l2_jacobian(seed, concentration):
    x, bases = clusters(seed)
    z = em.responsibilities(x, bases, concentration=concentration)
    sums = z.mT @ x
    unit = em.normalize(sums, "l2")
    project = torch.eye(3, dtype=x.dtype) - unit.unsqueeze(-1) * unit.unsqueeze(-2)
    weight = z.unsqueeze(-1) * (torch.eye(2, dtype=x.dtype) - z.unsqueeze(-2))  # n, k, j
    moment = torch.einsum("nkj,nc,nd->kjcd", weight, x, x)
    blocks = torch.einsum("kbc,kjcd->kbjd", project, moment)
    blocks = concentration * blocks / sums.norm(dim=-1)[:, None, None, None]
    torch.testing.assert_close(
        jacobian(x, bases, concentration=concentration), blocks.reshape(6, 6)
    )


@pytest.mark.parametrize("normalization", ["l2", "gaussian"])
@given(seed=st.integers(0, 10**6), concentration=st.sampled_from([1.0, 3.0]))
@settings(deadline=None, max_examples=4)
def test_eigenvalues_at_a_maximum_lie_between_zero_and_one(normalization, seed, concentration):
    x, bases = clusters(seed)
    options = {"concentration": concentration, "normalization": normalization}
    end = em.expectation_maximization(x, bases, 200, trace=False, **options).bases
    values = torch.linalg.eigvals(jacobian(x, end, **options))
    assert values.imag.abs().max() < 1e-4
    assert values.real.min() > -1e-4
    assert values.real.max() < 1 + 1e-4


@given(seed=st.integers(0, 10**6), concentration=st.sampled_from([0.3, 1.0, 10.0]))
@quickly
def test_l2_eigenvalues_are_real_and_not_negative_anywhere(seed, concentration):
    x, bases = clusters(seed)
    values = torch.linalg.eigvals(jacobian(x, bases, concentration=concentration))
    scale = 1 + values.abs().max()
    assert values.imag.abs().max() < 1e-6 * scale
    assert values.real.min() > -1e-6 * scale


def test_the_gaussian_iteration_can_have_complex_eigenvalues_away_from_a_fixed_point():
    x = torch.tensor([[-1], [1], [0]], dtype=torch.float64)
    bases = torch.tensor([[0], [-2]], dtype=torch.float64)
    values = torch.linalg.eigvals(jacobian(x, bases, normalization="gaussian"))
    assert values.imag.abs().max() > 0.1


@pytest.mark.parametrize(("num_bases", "channels"), [(4, 6), (6, 4), (2, 5), (5, 5)])
def test_zero_eigenvalues_of_the_l2_jacobian_are_counted(num_bases, channels):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, channels, generator=generator, dtype=torch.float64)
    bases = torch.randn(num_bases, channels, generator=generator, dtype=torch.float64)
    values = torch.linalg.eigvals(jacobian(x, em.normalize(bases, "l2")))
    assert (values.abs() < 1e-7).sum() == max(num_bases, channels)
    twins = em.normalize(bases[[0, 0, *range(1, num_bases)]], "l2")
    values = torch.linalg.eigvals(jacobian(x, twins))
    rank = min(num_bases, channels)
    assert (values.abs() < 1e-7).sum() == num_bases + 1 + channels - rank


def tangent(bases):
    """Projection of differences of all bases, in row-major order, onto the spheres' tangents."""
    eye = torch.eye(bases.shape[-1], dtype=bases.dtype)
    return torch.block_diag(*(eye - torch.outer(basis, basis) for basis in bases))


@given(seed=st.integers(0, 10**6), concentration=st.sampled_from([1.0, 3.0]))
@quickly
def test_gradients_at_a_maximum_never_grow_in_the_metric_of_the_sums(seed, concentration):
    x, bases = clusters(seed)
    options = {"concentration": concentration}
    end = em.expectation_maximization(x, bases, 500, trace=False, **options).bases
    matrix, project = jacobian(x, end, **options), tangent(end)
    sums = em.responsibilities(x, end, **options).mT @ x
    metric = sums.norm(dim=-1).repeat_interleave(3)
    within = project @ matrix @ project
    self_adjoint = metric[:, None] * within
    torch.testing.assert_close(self_adjoint, self_adjoint.mT, rtol=0, atol=1e-9)
    scaled = metric.sqrt()[:, None] * within / metric.sqrt()
    radius = spectral_radius(matrix)
    torch.testing.assert_close(torch.linalg.matrix_norm(scaled, 2), radius, rtol=1e-6, atol=1e-9)
    bound = radius * (metric.max() / metric.min()).sqrt()
    assert torch.linalg.matrix_norm(within, 2) <= bound * (1 + 1e-9)


def test_a_radial_gradient_can_be_eight_times_as_long_one_step_back():
    x = torch.tensor([[19, 1], [1, -1]], dtype=torch.float64)
    bases = torch.tensor([[1, 0], [1, 0]], dtype=torch.float64)
    matrix = jacobian(x, bases, concentration=9.0)
    assert spectral_radius(matrix).item() == pytest.approx(0.9)
    assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(0.9 * 82**0.5)
    cotangent = torch.tensor([[0, 1], [0, -1]], dtype=torch.float64)
    norms = unrolled_gradient_norms(x, bases, cotangent, 8, concentration=9.0)
    assert norms[-2] / norms[-1] == pytest.approx(0.9 * 82**0.5)
    assert norms[0] < norms[-2]


def test_errors_shrink_by_the_spectral_radius():
    x, bases = clusters(0)
    end = em.expectation_maximization(x, bases, 100).bases
    radius = spectral_radius(jacobian(x, end))
    errors = [(em.expectation_maximization(x, bases, t).bases - end).norm() for t in (14, 15, 16)]
    assert errors[2] / errors[1] == pytest.approx(radius.item(), rel=1e-2)
    assert spectral_radius(torch.tensor([[0.0, -2.0], [2.0, 0.0]])).item() == pytest.approx(2)


@pytest.mark.parametrize("normalization", ALL)
def test_unrolled_norms_are_products_of_jacobians(normalization):
    x, bases = clusters(1)
    options = {"concentration": 0.7, "normalization": normalization}
    cotangent = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norms = unrolled_gradient_norms(x, bases, cotangent, 3, **options)
    gradient, expected = cotangent.flatten(), [cotangent.norm()]
    states = [bases]
    for _ in range(2):
        states.append(em.expectation_maximization(x, states[-1], 1, **options).bases)
    for state in reversed(states):
        gradient = jacobian(x, state, **options).mT @ gradient
        expected.append(gradient.norm())
    torch.testing.assert_close(norms, torch.stack(expected[::-1]))


# ---- regimes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ["l2", "gaussian", "none", "layer"])
@pytest.mark.parametrize("iterations", [1, 3])
def test_gradcheck_unrolled(normalization, iterations):
    x, bases = clusters(2, pixels=6)

    def estimate(x, bases):
        return reestimate(
            x, bases, iterations, regime="unrolled", concentration=0.5, normalization=normalization
        )

    assert gradcheck(estimate, (x.requires_grad_(), bases.requires_grad_()))


@pytest.mark.parametrize("normalization", ["l2", "gaussian"])
def test_gradcheck_one_step_with_the_earlier_iterations_held(normalization):
    x, bases = clusters(2, pixels=6)
    options = {"concentration": 0.5, "normalization": normalization}
    before = em.expectation_maximization(x, bases, 2, **options).bases

    def held(x):
        z, end, _ = em.expectation_maximization(x, before, 1, **options)
        return em.reconstruct(z, end)

    cotangent = torch.randn(6, 3, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    ours = input_gradient(x, bases, cotangent, 3, regime="one_step", **options)
    assert gradcheck(held, x.requires_grad_())
    torch.testing.assert_close(ours, torch.autograd.grad(held(x), x, cotangent)[0])


@pytest.mark.parametrize("normalization", ["l2", "gaussian"])
def test_gradcheck_implicit_at_the_fixed_point(normalization):
    x, bases = clusters(2, pixels=6)

    def estimate(x):
        return reestimate(
            x, bases, 80, regime="implicit", concentration=1.5, normalization=normalization
        )

    assert gradcheck(estimate, x.requires_grad_(), check_undefined_grad=False)


@pytest.mark.parametrize("normalization", ["l2", "gaussian"])
@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=3)
def test_implicit_equals_unrolled_at_convergence(normalization, seed):
    x, bases = clusters(seed, batch=(2,))
    cotangent = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
    gradients = {
        regime: input_gradient(
            x, bases, cotangent, 100, regime=regime, concentration=2.0, normalization=normalization
        )
        for regime in ("unrolled", "implicit", "one_step")
    }
    torch.testing.assert_close(gradients["implicit"], gradients["unrolled"], rtol=1e-5, atol=1e-7)
    # one_step leaves the history out: close where EM contracts fast, never the same
    assert (gradients["one_step"] - gradients["unrolled"]).norm() > 1e-6


def test_regimes_are_sums_over_the_two_ways_in_which_the_estimate_depends_on_the_bases():
    x, bases = clusters(4, pixels=10)
    end = em.expectation_maximization(x, bases, 2000, trace=False).bases
    cotangent = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    z, matrix = em.responsibilities(x, end), jacobian(x, end)
    inner, leaf = end.clone().requires_grad_(), x.clone().requires_grad_()
    factor = torch.autograd.grad(em.reconstruct(z, inner), inner, cotangent)[0].flatten()
    through = em.reconstruct(em.responsibilities(x, inner), end)
    through = torch.autograd.grad(through, inner, cotangent)[0].flatten()
    direct = em.reconstruct(em.responsibilities(leaf, end), end)
    direct = torch.autograd.grad(direct, leaf, cotangent)[0]
    moved = em.expectation_maximization(leaf, end, 1).bases

    def expected(gradient):
        pulled = torch.autograd.grad(moved, leaf, gradient.reshape_as(end), retain_graph=True)
        return direct + pulled[0]

    inverse = torch.linalg.inv(torch.eye(6, dtype=x.dtype) - matrix.mT)
    for regime, gradient in (
        ("one_step", factor),
        ("unrolled", factor + matrix.mT @ factor + through),
        ("implicit", inverse @ (factor + through)),
    ):
        ours = input_gradient(x, end, cotangent, 2, regime=regime)
        torch.testing.assert_close(ours, expected(gradient), rtol=1e-7, atol=1e-9)
    # What one step leaves out does not carry a factor of J: it is not small with it.
    assert through.norm() > 0.05 * factor.norm()


def test_regimes_have_one_value_and_detached_no_gradient():
    x, bases = clusters(3)
    values = [
        reestimate(x, bases, 100, regime=regime)
        for regime in ("detached", "one_step", "unrolled", "implicit")
    ]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0])
    assert not reestimate(x.clone().requires_grad_(), bases, 2, regime="detached").requires_grad
    assert (input_gradient(x, bases, x, 2, regime="detached") == 0).all()


@pytest.mark.parametrize("regime", ["one_step", "unrolled"])
def test_the_unit_has_the_same_gradient(regime):
    torch.manual_seed(0)
    unit = EMAU(4, num_bases=3, gradient=regime).double()
    features = torch.randn(1, 4, 3, 3, dtype=torch.float64)
    x = unit.conv1(features).flatten(2).mT.detach()
    cotangent = torch.randn_like(x)
    result = unit.attend(features)
    total = (em.reconstruct(result.responsibilities, result.bases) * cotangent).sum()
    (bias,) = torch.autograd.grad(total, unit.conv1.bias)
    ours = input_gradient(x, unit.bases, cotangent, 3, regime=regime)
    torch.testing.assert_close(ours.sum(dim=(0, 1)), bias)


def test_unknown_regime_is_refused():
    x, bases = clusters(0)
    # the second where shapes and literals are checked at run time
    with pytest.raises((ValueError, TypeCheckError), match="regime"):
        reestimate(x, bases, 1, regime="magic")


@pytest.mark.unchecked
@pytest.mark.parametrize("regime", ["detached", "one_step", "unrolled"])
def test_compiled_a_regime_takes_another_number_of_iterations(regime):
    x, bases = torch.randn(2, 9, 4), torch.randn(3, 4)
    compiled = torch.compile(reestimate, backend="aot_eager", fullgraph=True)
    for count in (2, 3):
        expected = reestimate(x, bases, count, regime=regime)
        torch.testing.assert_close(compiled(x, bases, count, regime=regime), expected)
