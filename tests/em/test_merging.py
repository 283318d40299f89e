"""When bases merge: what is proved of groups, of single bases and of the shared start, executed."""

import itertools
import math
import statistics

import hypothesis.strategies as st
import mpmath
import pytest
import torch
from em.problems import ALL, doubles, draw
from hypothesis import given, settings
from jaxtyping import TypeCheckError

from emastudy import em
from emastudy.em.gradients import (
    critical_concentration,
    difference_map,
    jacobian,
    shared_start_growth,
    single_basis_concentration,
    spectral_radius,
)

quickly = settings(deadline=None, max_examples=8)


def clusters(seed, *, batch=()):
    """Pixels around two orthogonal directions."""
    centers = 2 * torch.eye(3, dtype=torch.float64)[torch.arange(24) % 2]
    return centers + 0.4 * draw(seed, *batch, 24, 3)


def after(x, bases, iterations, **options):
    return em.expectation_maximization(x, bases, iterations, trace=False, **options).bases


def direction(x):
    return em.normalize(x.mean(dim=-2, keepdim=True), "l2")


# ---- all bases in one place ---------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ALL)
@given(seed=st.integers(0, 10**6))
@quickly
def test_at_the_critical_concentration_coincident_bases_neither_merge_nor_part(normalization, seed):
    """The Jacobian there, by automatic differentiation, has spectral radius one."""
    x = clusters(seed, batch=(2,))
    mean = em.normalize(x.mean(dim=-2, keepdim=True), normalization)
    together = mean.expand(2, 3, 3)
    critical = critical_concentration(x, normalization=normalization)
    for one, bases, concentration in zip(x, together, critical.tolist(), strict=True):
        options = {"concentration": concentration, "normalization": normalization}
        again = after(one, bases, 1, **options)
        torch.testing.assert_close(again, bases, rtol=0, atol=1e-4)  # a fixed point
        radius = spectral_radius(jacobian(one, bases, **options)).item()
        assert radius == pytest.approx(1, abs=1e-3 if normalization == "layer" else 1e-9)


@pytest.mark.parametrize("normalization", ALL)
@pytest.mark.parametrize(("share", "merge"), [(0.9, True), (1.1, False)])
def test_bases_near_the_mean_merge_below_the_critical_concentration_and_part_above(
    normalization, share, merge
):
    x = clusters(3)
    critical = critical_concentration(x, normalization=normalization).item()
    mean = em.normalize(x.mean(dim=0, keepdim=True), normalization)
    noise = draw(0, 3, 3)
    start = mean + 1e-4 * (noise - noise.mean(dim=0))
    ends = after(x, start, 200, concentration=share * critical, normalization=normalization)
    growth = (ends.std(dim=0).norm() / start.std(dim=0).norm()).item()
    assert (growth < 1e-2) if merge else (growth > 1e2)


def test_the_critical_concentration_at_its_extremes():
    x = clusters(0)
    assert critical_concentration(torch.ones(5, 3)).item() > 1e6  # one direction
    assert critical_concentration(x - x.mean(dim=0)).item() == pytest.approx(0, abs=1e-9)
    assert critical_concentration(2 * x).item() == pytest.approx(critical_concentration(x) / 2)
    with pytest.raises((ValueError, TypeCheckError), match="normalization"):
        critical_concentration(x, normalization="batch")


def test_the_first_step_of_short_bases_has_a_part_along_the_mean():
    x = doubles([[3, 1, 0], [1, -1, 0.5], [2, 0.5, -1], [2, -0.5, 0.5]])
    moments, tiny = x.mT @ x / 4, 1e-6 * doubles([[1, 0.3, 0.2], [-1, 0.1, 0]])
    across = torch.eye(3, dtype=x.dtype) - direction(x).mT @ direction(x)
    change = after(x, 0.7 * direction(x) + tiny, 1, concentration=0.5) - direction(x)
    differences = 0.5 / x.mean(dim=0).norm() * (tiny - tiny.mean(dim=0))
    torch.testing.assert_close(change, differences @ (across @ moments).mT, rtol=1e-3, atol=1e-10)
    without = differences @ (across @ moments @ across).mT
    assert (change - without).norm() > 5 * without.norm()


def test_balanced_assignments_have_the_same_critical_concentration():
    x = draw(0, 50, 3) + doubles([1.2, 0, 0])
    critical = critical_concentration(x).item()
    values, vectors = torch.linalg.eig(difference_map(x, direction(x), concentration=critical)[0])
    way = vectors[:, values.abs().argmax()].real
    pair = em.normalize(direction(x) + 1e-5 * torch.stack([way, -way]), "l2")
    balance = torch.zeros(2, dtype=x.dtype)
    for _ in range(300):
        z = torch.softmax(critical * x @ pair.mT + balance, dim=1)
        balance = balance - (2 * z.mean(dim=0)).log()
    torch.testing.assert_close(z.sum(dim=0), torch.full((2,), 25.0, dtype=x.dtype))
    ends = em.update_bases(x, z)
    factor = (ends[0] - ends[1]).norm() / (pair[0] - pair[1]).norm()
    assert factor.item() == pytest.approx(1, abs=1e-6)


def test_counter_example_close_bases_part_below_the_critical_concentration():
    x = doubles([[3, 0, 0]] * 18 + [[-1, 2, 1], [-1, 2, -1]])
    start = em.normalize(doubles([[1, 0, 0], [-1, 2, 0.001], [-1, 2, -0.001]]), "l2")
    assert start[1] @ start[2] > 0.999999
    assert critical_concentration(x) > 5
    ends = after(x, start, 1000, concentration=3.0)
    assert ends[1] @ ends[2] < 0.9
    # It is the group's own critical concentration, √5, that counts.
    group = after(x, start[[0, 1]] + 0 * start[[0, 2]], 1000, concentration=2.0)
    own = 2 / spectral_radius(difference_map(x, group, concentration=2.0))
    assert own[1].item() == pytest.approx(5**0.5, rel=1e-2)
    held = after(x, start, 1000, concentration=2.0)
    assert held[1] @ held[2] > 1 - 1e-9


def test_counter_example_distant_bases_stay_apart_far_below_the_critical_concentration():
    x = doubles([[2, 0]] * 19 + [[-1, 1]])
    start = em.normalize(doubles([[1, 0], [-1, 1]]), "l2")
    ends = after(x, start, 1000, concentration=2.0)
    assert critical_concentration(x) > 30
    assert (after(x, ends, 1, concentration=2.0) - ends).abs().max() < 1e-12
    assert spectral_radius(jacobian(x, ends, concentration=2.0)) < 0.1
    merged = em.objective(x, direction(x).expand(2, -1), concentration=2.0)
    assert em.objective(x, ends, concentration=2.0) < merged - 8


# ---- groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ALL)
@given(seed=st.integers(0, 10**6), concentration=st.sampled_from([0.3, 1.0, 3.0]))
@quickly
def test_the_difference_map_is_what_the_jacobian_does_to_differences(
    normalization, seed, concentration
):
    x = draw(seed, 2, 20, 4)
    bases = em.normalize(draw(seed + 1, 2, 3, 4), normalization)[:, [0, 0, 1, 2]]
    options = {"concentration": concentration, "normalization": normalization}
    maps = difference_map(x, bases, **options)
    assert maps.shape == (2, 4, 4, 4)
    torch.testing.assert_close(maps[:, 0], maps[:, 1])
    blocks = jacobian(x, bases, **options).reshape(2, 4, 4, 4, 4)
    moved = blocks[:, 0, :, 0] - blocks[:, 1, :, 0]  # of basis 0 alone: difference to its twin
    torch.testing.assert_close(maps[:, 0], moved, rtol=1e-6, atol=1e-9)


def test_at_a_fixed_point_every_group_is_below_its_own_critical_concentration():
    centers = 3 * em.normalize(draw(0, 5, 8), "l2")
    x = torch.cat([center + 0.8 * draw(1 + k, 40, 8) for k, center in enumerate(centers)])
    ends = after(x, em.normalize(draw(9, 12, 8), "l2"), 3000)
    members = (ends @ ends.mT > 1 - 1e-9).sum(dim=1)
    assert 1 < (1 / members).sum().round() < 12
    within = spectral_radius(difference_map(x, ends))
    assert (within[members > 1] < 1).all()
    # The eigenvalues of J are those of the groups and those of a mixture with weights.
    groups = sorted({tuple((ends @ end > 1 - 1e-9).nonzero().flatten().tolist()) for end in ends})
    values = torch.linalg.eigvals(jacobian(x, ends)).real.sort(descending=True).values
    expected = [
        torch.linalg.eigvals(difference_map(x, ends)[group[0]]).real.repeat(len(group) - 1)
        for group in groups
    ]
    together = torch.zeros(12, len(groups), dtype=x.dtype)
    for column, group in enumerate(groups):
        together[list(group), column] = 1
    whole = jacobian(x, ends).reshape(12, 8, 12, 8)
    moves = torch.einsum("kcjd,jb->kcbd", whole, together)[[group[0] for group in groups]]
    size = 8 * len(groups)
    expected.append(torch.linalg.eigvals(moves.reshape(size, size)).real)
    torch.testing.assert_close(
        values[:20], torch.cat(expected).sort(descending=True).values[:20], rtol=0, atol=1e-7
    )


@given(seed=st.integers(0, 10**6))
@quickly
def test_bases_that_coincide_are_one_with_a_larger_weight(seed):
    x, bases = draw(seed, 40, 3), em.normalize(draw(seed + 1, 2, 3), "l2")
    z = torch.softmax(1.3 * x @ bases.mT + doubles([0.75, 0.25]).log(), dim=1)
    four = after(x, bases[[0, 0, 0, 1]], 1, concentration=1.3)
    torch.testing.assert_close(four[[0, 3]], em.update_bases(x, z))


# ---- one basis against any number ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cloud", "distant part"])
def test_the_single_basis_concentration_against_a_dense_search(kind):
    if kind == "cloud":
        x = draw(0, 100, 3) + doubles([1, 0, 0])
    else:
        x = torch.cat([doubles([2, 0, 0]) + 0.3 * draw(0, 95, 3), doubles([[-1.5, 1, 0]] * 5)])
    gains = x @ (em.normalize(draw(1, 20_000, 3), "l2") - direction(x)).mT
    low, high = 0.0, critical_concentration(x).item()
    for _ in range(20):
        middle = (low + high) / 2
        best = (middle * gains).logsumexp(dim=0).max() - math.log(len(x))
        low, high = (low, middle) if best > 0 else (middle, high)
    ours = single_basis_concentration(x).item()
    assert ours == pytest.approx(low, rel=2e-3)
    assert ours <= critical_concentration(x)
    assert (ours < 0.2 * critical_concentration(x)) == (kind == "distant part")


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-6])
def test_the_single_basis_concentration_of_pixels_that_nearly_coincide(spread):
    """Against a grid of θ near m̂: x_nᵀ(θ - m̂) in exact arithmetic has no rounding to hide in."""
    x = doubles([[1, 0, 0]]) + spread * draw(0, 12, 3)
    ours, critical = single_basis_concentration(x).item(), critical_concentration(x).item()
    with mpmath.workdps(40):
        pixels = [mpmath.matrix(row) for row in x.tolist()]
        mean = sum(pixels[1:], pixels[0])
        mean /= mpmath.norm(mean)
        sides = [mpmath.matrix([-mean[1], mean[0], 0]), mpmath.matrix([-mean[2], 0, mean[0]])]
        best = {0.99: -1, 1.01: -1}
        for angle, far in itertools.product(range(0, 360, 5), (0.5, 1, 1.5, 2, 3)):
            turn = mpmath.radians(angle)
            theta = mean + far * spread * (
                sides[0] * mpmath.cos(turn) + sides[1] * mpmath.sin(turn)
            )
            theta /= mpmath.norm(theta)
            gains = [mpmath.fdot(pixel, theta - mean) for pixel in pixels]
            for share, most in best.items():
                mass = mpmath.fsum(mpmath.exp(share * ours * gain) for gain in gains)
                best[share] = max(most, mpmath.log(mass / len(gains)))
    assert 0.3 * critical < ours < critical
    assert best[0.99] < 0 < best[1.01]


def test_up_to_it_no_mixture_is_likelier_than_one_basis():
    x = torch.cat([doubles([2, 0, 0]) + 0.3 * draw(0, 80, 3), doubles([[-1.5, 1, 0]] * 10)])
    best = single_basis_concentration(x).item()
    assert 1.5 * best < critical_concentration(x)
    starts, every = em.normalize(draw(1, 30, 8, 3), "l2"), x.expand(30, -1, -1)
    for share, beaten in ((0.98, False), (1.5, True)):
        options = {"concentration": share * best}
        one = em.objective(x, direction(x), **options) + len(x) * math.log(8)
        many = em.expectation_maximization(every, starts, 300, **options).objective[:, -1].max()
        assert bool(many > one + 1e-6) == beaten


def test_the_single_basis_concentration_at_its_extremes():
    x = draw(0, 2, 40, 4) + 1
    ours = single_basis_concentration(x)
    torch.testing.assert_close(single_basis_concentration(x[1]), ours[1])
    torch.testing.assert_close(single_basis_concentration(2 * x), ours / 2)
    assert single_basis_concentration(x.float()).dtype == torch.float32
    assert single_basis_concentration(torch.ones(5, 3)) > 1e6  # one direction
    centred = x[0] - x[0].mean(dim=0)
    assert single_basis_concentration(centred).item() == pytest.approx(0, abs=1e-9)
    # x and -x: mean e^{λ(θ - m̂)x} = 1 has a solution in closed form at θ = -m̂
    line = doubles([[2, 0], [2, 0], [-1, 0]])
    scale = single_basis_concentration(line).item()
    assert 2 * math.exp(-4 * scale) + math.exp(2 * scale) == pytest.approx(3)


def test_a_small_part_lowers_both_concentrations_and_the_single_basis_one_far_more():
    compact = doubles([2, 0, 0]) + 0.3 * draw(0, 95, 3)
    x = torch.cat([compact, doubles([-1.5, 1, 0]) + 0.3 * draw(1, 5, 3)])
    critical = (critical_concentration(x) / critical_concentration(compact)).item()
    single = (single_basis_concentration(x) / single_basis_concentration(compact)).item()
    assert single < 0.2 < critical < 0.9


def test_for_many_parts_of_like_size_the_single_basis_concentration_is_far_lower():
    ratios = []
    for parts in (2, 3, 5, 10, 20, 40):  # x_k = e_0 + e_k
        x = torch.cat([torch.ones(parts, 1), torch.eye(parts)], dim=1).double()
        ratios.append((single_basis_concentration(x) / critical_concentration(x)).item())
    assert ratios[0] == pytest.approx(1)
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[1] > 0.9
    assert ratios[-1] < 0.25


# ---- from every start ---------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6))
@quickly
def test_in_a_half_space_all_bases_merge_from_every_start(seed):
    x = draw(seed, 30, 4)
    x[:, 0] = x[:, 0].abs() + 0.3
    bound = (x[:, 0].min() / x.norm(dim=1).max() ** 2).item()
    bases = em.normalize(draw(seed + 1, 6, 4), "l2")
    ends = after(x, bases, 1, concentration=0.9 * bound)
    assert torch.cdist(ends, ends).max() <= 0.9 * torch.cdist(bases, bases).max()


@pytest.mark.parametrize("normalization", ["none", "gaussian"])
@given(seed=st.integers(0, 10**6))
@quickly
def test_without_normalisation_the_diameter_bounds_it(normalization, seed):
    x, bases = draw(seed, 30, 4), 2 * draw(seed + 1, 6, 4)
    bound = 4 / torch.cdist(x, x).max().item() ** 2
    ends = after(x, bases, 1, concentration=0.9 * bound, normalization=normalization)
    assert torch.cdist(ends, ends).max() <= 0.9 * torch.cdist(bases, bases).max()


# ---- the shared start ---------------------------------------------------------------------------


def images(count=30):
    """Three clusters each, in random directions about a common one."""
    centers = 1.5 * torch.eye(6, dtype=torch.float64)[0]
    centers = centers + 1.2 * em.normalize(draw(0, count, 3, 6), "l2")
    return centers.repeat_interleave(10, dim=1) + 0.4 * draw(1, count, 30, 6)


@pytest.mark.parametrize("normalization", ALL)
def test_growth_is_the_derivative_of_the_moving_average(normalization):
    x = images(4)
    options = {"concentration": 0.7, "normalization": normalization}
    start = em.normalize(draw(2, 3, 6), normalization)[[0, 0, 1, 2]].requires_grad_()
    mean = em.expectation_maximization(x, start, 2, trace=False, **options).bases.mean(dim=0)
    rows = [torch.autograd.grad(value, start, retain_graph=True)[0][0] for value in mean[0]]
    twin = [torch.autograd.grad(value, start, retain_graph=True)[0][0] for value in mean[1]]
    expected = spectral_radius(torch.stack(rows) - torch.stack(twin))
    growth = shared_start_growth(x, start.detach(), 2, **options)
    assert growth.shape == (4,)
    torch.testing.assert_close(growth[0], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("share", "merge"), [(0.9, True), (1.1, False)])
def test_the_shared_start_merges_below_its_threshold_and_parts_above(momentum, share, merge):
    x = images()
    anywhere = em.normalize(draw(3, 1, 6), "l2").expand(4, -1)
    growth = shared_start_growth(x, anywhere, 3)
    torch.testing.assert_close(growth, shared_start_growth(x, anywhere.flip(-1), 3))
    threshold = growth[0].item() ** (-1 / 3)
    assert threshold > critical_concentration(x).median()
    there = shared_start_growth(x, anywhere, 3, concentration=threshold)
    assert there[0].item() == pytest.approx(1)
    start = em.normalize(x.mean(dim=(0, 1)) + 1e-3 * draw(4, 4, 6), "l2")
    before = start.std(dim=0).norm()
    for _ in range(30 if momentum == 0 else 300):
        ends = after(x, start, 3, concentration=share * threshold)
        start = momentum * start + (1 - momentum) * ends.mean(dim=0)
    assert bool(start.std(dim=0).norm() < before / 10) == merge
    assert bool(start.std(dim=0).norm() > before * 2) != merge


@pytest.mark.parametrize(("momentum", "part"), [(0.0, False), (0.9, True)])
def test_counter_example_with_one_image_an_update_the_momentum_decides(momentum, part):
    """Growth 3 and 0.1, 1.55 in the mean: E log(α + (1 - α)D) has either sign."""
    pair = torch.tensor([[[1, y], [1, -y]] for y in (3**0.5, 0.1**0.5)], dtype=torch.float64)
    start = em.normalize(torch.tensor([[1, 1e-3], [1, -1e-3]], dtype=torch.float64), "l2")
    assert shared_start_growth(pair, start, 1)[0].item() == pytest.approx(1.55, abs=1e-4)
    spreads, generator = [], torch.Generator().manual_seed(0)
    for _ in range(600):
        (one,) = torch.randint(2, (1,), generator=generator)
        start = momentum * start + (1 - momentum) * after(pair[one], start, 1)
        spreads.append((start[0] - start[1]).norm().item())
    assert (statistics.median(spreads[300:]) > 0.1) == part


def test_two_sets_of_bases_are_lipschitz_and_not_monotone():
    """With Z one M step older than the bases, as in Eq. 14."""
    norms, lowest = [], []
    for seed in range(40):
        x, old = 1.5 * draw(seed, 12, 3), em.normalize(draw(seed + 1, 4, 3), "l2")
        new = em.expectation_maximization(x, old, 1).bases
        jacobian = torch.autograd.functional.jacobian(
            lambda pixel, old=old, new=new: em.responsibilities(pixel, old) @ new,
            x[:1],
        )[0, :, 0]
        norms.append(torch.linalg.matrix_norm(jacobian, 2).item())
        lowest.append(torch.linalg.eigvalsh(jacobian + jacobian.mT)[0].item())
    assert max(norms) <= 1
    assert min(lowest) < -1e-3


@pytest.mark.parametrize(("longer", "apart"), [(1, False), (2, True)])
def test_two_parts_of_unlike_length_separate_the_two_concentrations(longer, apart):
    parts = torch.tensor([[1, 0], [0, longer]], dtype=torch.float64)
    ratio = single_basis_concentration(parts) / critical_concentration(parts)
    assert bool(ratio < 0.9) == apart
    assert bool(ratio > 1 - 1e-6) != apart


def test_counter_example_no_half_space_no_merging():
    """Two opposite pixels: bases stay opposite at any λ, since the mean is zero."""
    x = torch.tensor([[1, 0], [-1, 0]], dtype=torch.float64)
    start = em.normalize(torch.tensor([[1, 0.5], [-1, 0.5]], dtype=torch.float64), "l2")
    ends = em.expectation_maximization(x, start, 500, concentration=0.01).bases
    torch.testing.assert_close(
        ends, torch.eye(2, dtype=torch.float64)[:1] * ends.new_tensor([[1], [-1]])
    )


def test_growth_wants_an_image():
    with pytest.raises(ValueError, match="at least one image"):
        shared_start_growth([], draw(0, 2, 3))
