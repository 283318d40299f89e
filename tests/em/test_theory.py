"""What the book proves about the iteration, executed: theorems, counter-examples, identities."""

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from em.problems import ALL, EXACT, doubles, draw, falls, problems, run
from hypothesis import given, settings

from emastudy import EMAU, em
from emastudy.em.mixtures import GaussianMixture, VonMisesFisherMixture, fit

quickly = settings(deadline=None, max_examples=10)


# ---- the likelihood -----------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", EXACT)
@given(problem=problems())
@quickly
def test_the_objective_never_falls(normalization, problem):
    assert falls(run(*problem, normalization).objective) < 1e-12


@given(problem=problems())
@quickly
def test_l2_never_falls_from_bases_inside_the_ball_either(problem):
    # The moving average of unit vectors is shorter than 1.
    x, bases, concentration, iterations = problem
    assert falls(run(x, 0.3 * bases, concentration, iterations, "l2").objective) < 1e-12


def test_counter_example_l2_falls_from_bases_outside_the_ball():
    objective = run(torch.eye(2), 3 * torch.eye(2), 1.0, 2, "l2").objective
    assert objective[1] < objective[0] - 3
    assert objective[2] > objective[1]


@given(problem=problems())
@quickly
def test_every_step_gains_half_the_squared_way_weighted_by_the_sums(problem):
    x, bases, concentration, _ = problem
    bases = 0.7 * bases
    sums = em.responsibilities(x, bases, concentration=concentration).mT @ x
    moved = (em.normalize(sums, "l2") - bases).square().sum(dim=-1)
    bound = 0.5 * concentration * (sums.norm(dim=-1) * moved).sum(dim=-1)
    gain = run(x, bases, concentration, 1, "l2").objective.diff(dim=-1).squeeze(-1)
    assert (gain >= bound * (1 - 1e-9) - 1e-9).all()


def test_at_the_critical_concentration_convergence_is_slower_than_linear():
    x = draw(0, 50, 3) + doubles([1.2, 0, 0])
    mean = x.mean(dim=0)
    across = x - x @ mean[:, None] * mean / mean.square().sum()
    values = torch.linalg.svd(across)
    critical = (len(x) * mean.norm() / values.S[0].square()).item()

    def distance(way, iterations):
        pair = em.normalize(mean / mean.norm() + 0.1 * torch.stack([way, -way]), "l2")
        ends = em.expectation_maximization(
            x, pair, iterations, concentration=critical, trace=False
        ).bases
        return (ends[0] - ends[1]).norm().item()

    assert 2 < distance(values.Vh[0], 300) / distance(values.Vh[0], 3000) < 5  # √10 in the limit
    # That is the slowest direction: along another one the way is linear, to begin with.
    assert distance(values.Vh[1], 10) < 0.1 * distance(values.Vh[0], 10)


@given(problem=problems())
@quickly
def test_layer_is_l2_on_centred_features_with_concentration_sqrt_c(problem):
    x, bases, concentration, iterations = problem
    root = x.shape[-1] ** 0.5
    if x.shape[-1] == 2:  # centred vectors of two channels have two directions: LayerNorm is a sign
        return
    bases = em.normalize(bases - bases.mean(dim=-1, keepdim=True), "l2")
    centred = x - x.mean(dim=-1, keepdim=True)
    for _ in range(iterations):
        layer = run(x, root * bases, concentration, 1, "layer")
        l2 = run(centred, bases, root * concentration, 1, "l2")
        # Equal where sums are not small: LayerNorm adds 1e-5 to the variance of a mean, and a sum
        # below 1e-12 is not brought to length one.
        mass = layer.responsibilities.sum(dim=-2).unsqueeze(-1)
        means = layer.responsibilities.mT @ centred / mass
        if means.norm(dim=-1).min() > 1 and mass.min() > 1e-6:
            torch.testing.assert_close(layer.bases, root * l2.bases, rtol=1e-2, atol=1e-2)
        bases = l2.bases


@given(problem=problems())
@quickly
def test_layer_falls_at_its_first_step_alone(problem):
    x, bases, concentration, iterations = problem
    objective = run(10 * x, bases, concentration, iterations + 1, "layer").objective
    assert falls(objective[..., 1:]) < 1e-3  # what LayerNorm's own 1e-5 leaves


@given(problem=problems(), seed=st.integers(0, 1000))
@quickly
def test_layer_never_falls_from_averages_of_its_outputs(problem, seed):
    # What the moving average of a LayerNorm unit holds.
    x, bases, concentration, iterations = problem
    outputs = em.normalize(draw(seed, 5, *bases.shape), "layer")
    objective = run(10 * x, outputs.mean(dim=0), concentration, iterations, "layer").objective
    assert falls(objective) < 1e-3


def test_counter_example_layer_falls_where_its_epsilon_is_not_small():
    x = 1e-3 * draw(1, 30, 4)
    start = em.normalize(draw(2, 3, 4), "layer")
    objective = run(x, start, 2000.0, 5, "layer").objective
    assert (objective[1:].diff() < -0.1).any()


def test_a_gain_breaks_the_m_step_of_layer():
    gain, total = draw(0, 6).abs() + 0.2, draw(1, 6)
    layer = lambda v: em.normalize(v[None], "layer")[0]  # noqa: E731
    possible = gain * em.normalize(draw(2, 2000, 6), "layer")
    best = gain * layer(gain * total) @ total
    assert best >= (possible @ total).max() - 1e-3
    assert gain * layer(total) @ total < best - 1e-2


def test_counter_example_none_cycles():
    x = doubles([[3, -3], [-3, -3], [0, -1]])
    states = [run(x, doubles([[1, 0], [-1, -1]]), 3.0, 200, "none").bases]
    for _ in range(2):
        states.append(run(x, states[-1], 3.0, 1, "none").bases)
    assert (states[0] - states[1]).abs().max() > 1
    torch.testing.assert_close(states[2], states[0], rtol=0, atol=1e-12)
    # It attracts: a neighbour returns to it.
    near = run(x, states[0] + 0.05, 3.0, 40, "none").bases
    torch.testing.assert_close(near, states[0], rtol=0, atol=1e-9)


def test_counter_example_a_generalised_step_that_keeps_its_bound_can_cycle():
    """Under L2, although the M step has one answer: a basis is reflected at the mean."""
    x, first = draw(0, 20, 3) + 1, em.normalize(draw(1, 1, 3), "l2")
    mean = em.normalize(x.mean(dim=0, keepdim=True), "l2")
    second = 2 * (first @ mean.mT) * mean - first
    assert (second - first).norm() > 0.1
    torch.testing.assert_close(em.objective(x, second), em.objective(x, first))
    torch.testing.assert_close(2 * (second @ mean.mT) * mean - second, first)


@given(problem=problems())
@quickly
def test_without_normalisation_length_is_prior_weight(problem):
    x, bases, concentration, _ = problem
    bases = bases * (1 + torch.arange(bases.shape[-2]))[:, None]
    weights = torch.softmax(0.5 * concentration * bases.square().sum(dim=-1), dim=-1)
    joint = weights.log().unsqueeze(-2) - 0.5 * concentration * torch.cdist(x, bases).square()
    z = em.responsibilities(x, bases, concentration=concentration, normalization="none")
    torch.testing.assert_close(torch.softmax(joint, dim=-1), z, rtol=1e-6, atol=1e-9)


def test_the_m_step_of_gaussians_weighted_by_length_is_not_the_weighted_mean():
    x, bases = draw(0, 30, 3), draw(1, 2, 3).requires_grad_()
    z = em.responsibilities(x, bases.detach(), normalization="none")

    def bound(bases):  # Σ z log(π_k N_k), up to constants, with π_k ∝ exp(‖μ_k‖²/2)
        prior = torch.logsumexp(0.5 * bases.square().sum(dim=-1), dim=-1)
        return ((z.mT @ x) * bases).sum() - len(x) * prior

    (slope,) = torch.autograd.grad(bound(bases), bases)
    weights = torch.softmax(0.5 * bases.detach().square().sum(dim=-1), dim=-1)
    expected = z.mT @ x - len(x) * weights[:, None] * bases.detach()
    torch.testing.assert_close(slope, expected)
    mean = em.update_bases(x, z, normalization="none").requires_grad_()
    assert torch.autograd.grad(bound(mean), mean)[0].norm() > 0.1


def test_counter_example_none_falls():
    x = torch.tensor([[0, -2], [-3, -3], [0, -2], [-2, -3]], dtype=torch.float64)
    bases = torch.eye(2, dtype=torch.float64)
    objective = run(x, bases, 1.0, 3, "none").objective
    expected = torch.tensor([-3.73974, 38.61085, 33.97639, 33.51986], dtype=torch.float64)
    torch.testing.assert_close(objective, expected, atol=1e-5, rtol=0)
    assert falls(run(x, bases, 1.0, 3, "l2").objective) < 0
    assert falls(run(x, bases, 1.0, 3, "gaussian").objective) < 1e-12


def test_counter_example_layer_falls_at_the_first_step():
    x = torch.tensor([[3, 3, 2], [3, 2, 3], [2, 3, 3]], dtype=torch.float64)
    bases = em.normalize(torch.tensor([[1, 1, 1], [1, 1, 0]], dtype=torch.float64), "l2")
    objective = run(x, bases, 1.0, 3, "layer").objective
    expected = torch.tensor([14.9621, 3.3159, 3.3209, 3.3209], dtype=torch.float64)
    torch.testing.assert_close(objective, expected, atol=1e-4, rtol=0)


@given(problem=problems())
@quickly
def test_gaussian_is_the_em_of_the_identity_mixture(problem):
    x, bases, concentration, iterations = problem
    ours = run(x, bases, concentration, iterations, "gaussian")
    mixture = GaussianMixture("identity", learn_weights=False, concentration=concentration)
    fitted = fit(x, bases, mixture, num_iterations=iterations, tolerance=None)
    torch.testing.assert_close(ours.bases, fitted.parameters.bases)
    torch.testing.assert_close(ours.objective.diff(dim=-1), fitted.objective.diff(dim=-1))


@given(problem=problems())
@quickly
def test_l2_is_the_em_of_the_von_mises_fisher_mixture(problem):
    x, bases, concentration, iterations = problem
    ours = run(x, bases, concentration, iterations, "l2")
    mixture = VonMisesFisherMixture("per_sample", scale=concentration)
    fitted = fit(x, bases, mixture, num_iterations=iterations, tolerance=None)
    torch.testing.assert_close(ours.bases, fitted.parameters.bases)
    torch.testing.assert_close(ours.objective.diff(dim=-1), fitted.objective.diff(dim=-1))


@given(problem=problems())
@quickly
def test_l2_is_the_em_of_gaussians_with_unit_means(problem):
    x, bases, concentration, iterations = problem
    ours = run(x, bases, concentration, iterations, "l2")
    mixture = GaussianMixture(
        "identity", learn_weights=False, concentration=concentration, unit_means=True
    )
    fitted = fit(x, bases, mixture, num_iterations=iterations, tolerance=None)
    torch.testing.assert_close(ours.bases, fitted.parameters.bases)
    torch.testing.assert_close(ours.objective.diff(dim=-1), fitted.objective.diff(dim=-1))


def test_the_two_readings_of_l2_have_two_most_likely_concentrations():
    centers = em.normalize(draw(0, 3, 8), "l2")
    x = em.normalize(centers.repeat_interleave(60, dim=0) + 0.25 * draw(1, 180, 8), "l2")
    x = x * torch.linspace(2, 6, 60, dtype=torch.float64).repeat(3)[:, None]
    directions = VonMisesFisherMixture("per_sample", learn_scale=True)
    fitted = fit(x, centers, directions, num_iterations=50, tolerance=None)
    by_directions = fitted.parameters.spread.item()

    def gaussian(concentration):
        options = {"concentration": concentration, "unit_means": True, "learn_weights": False}
        mixture = GaussianMixture("identity", **options)
        return fit(x, centers, mixture, num_iterations=20, tolerance=None).objective[-1].item()

    grid = torch.logspace(-1, 1, 41).tolist()
    by_gaussians = max(grid, key=gaussian)
    assert by_gaussians < by_directions / 3


# ---- one function, and the attention matrix -----------------------------------------------------


@given(problem=problems())
@quickly
def test_one_function_has_the_m_step_and_the_reestimate_for_gradients(problem):
    x, bases, concentration, _ = problem
    leaves = x.clone().requires_grad_(), bases.clone().requires_grad_()
    total = em.objective(*leaves, concentration=concentration).sum()
    by_x, by_bases = torch.autograd.grad(total, leaves)
    z = em.responsibilities(x, bases, concentration=concentration)
    torch.testing.assert_close(by_bases / concentration, z.mT @ x)
    torch.testing.assert_close(by_x / concentration, em.reconstruct(z, bases))
    # Retrieval lowers the energy of every pixel in the memory of the bases.
    new = em.reconstruct(z, bases)

    def energy(x):
        match = torch.logsumexp(concentration * x @ bases.mT, dim=-1) / concentration
        return 0.5 * x.square().sum(dim=-1) - match

    assert (energy(new) <= energy(x) + 1e-9).all()


@given(problem=problems())
@quickly
def test_with_the_bases_held_the_reestimate_is_lipschitz_and_monotone(problem):
    x, bases, concentration, _ = problem
    x, bases = x.reshape(-1, x.shape[-1])[0], bases.reshape(-1, *bases.shape[-2:])[0]

    def retrieve(x):
        return em.responsibilities(x[None], bases, concentration=concentration)[0] @ bases

    slope = torch.autograd.functional.jacobian(retrieve, x)
    torch.testing.assert_close(slope, slope.mT)
    values = torch.linalg.eigvalsh(slope)
    assert values.min() > -1e-9
    assert values.max() <= concentration * (1 + 1e-9)


def test_the_lipschitz_bound_is_sharp_and_not_of_the_whole_map():
    opposite = doubles([[1, 0], [-1, 0]])
    retrieve = lambda x: em.responsibilities(x, opposite) @ opposite  # noqa: E731
    slope = torch.autograd.functional.jacobian(retrieve, torch.zeros(1, 2).double())
    assert torch.linalg.matrix_norm(slope.reshape(2, 2), 2).item() == pytest.approx(1)
    # At a small λ the bases are the mean's direction, and a short mean turns easily.
    x = doubles([[1, 0.1], [-1, 0.1]])
    attend = lambda x: em.reconstruct(*run(x, opposite, 0.01, 1, "l2")[:2])  # noqa: E731
    slope = torch.autograd.functional.jacobian(attend, x).reshape(4, 4)
    assert torch.linalg.matrix_norm(slope, 2) > 100 * 0.01


# ---- invariances --------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ALL)
@given(problem=problems())
@quickly
def test_k_iterations_twice_are_2k(normalization, problem):
    x, bases, concentration, iterations = problem
    once = run(*problem, normalization)
    twice = run(x, once.bases, concentration, iterations, normalization)
    double = run(x, bases, concentration, 2 * iterations, normalization)
    torch.testing.assert_close(twice.bases, double.bases)
    torch.testing.assert_close(twice.responsibilities, double.responsibilities)


@pytest.mark.parametrize("normalization", ALL)
@given(problem=problems(), seed=st.integers(0, 1000))
@quickly
def test_equivariance_to_permutations_and_rotations(normalization, problem, seed):
    x, bases, concentration, iterations = problem
    generator = torch.Generator().manual_seed(seed)
    result = run(*problem, normalization)
    pixels = torch.randperm(x.shape[-2], generator=generator)
    order = torch.randperm(bases.shape[-2], generator=generator)
    moved = run(x[..., pixels, :], bases[..., order, :], concentration, iterations, normalization)
    torch.testing.assert_close(
        moved.responsibilities, result.responsibilities[..., pixels, :][..., order]
    )
    torch.testing.assert_close(moved.bases, result.bases[..., order, :])
    if normalization == "layer":  # its mean over channels belongs to the axes
        return
    square = torch.randn(x.shape[-1], x.shape[-1], generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(square).Q
    turned = run(x @ rotation, bases @ rotation, concentration, iterations, normalization)
    torch.testing.assert_close(turned.bases, result.bases @ rotation, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(turned.responsibilities, result.responsibilities)


def test_layer_is_not_equivariant_to_rotations():
    generator = torch.Generator().manual_seed(0)
    x, bases = torch.randn(20, 3, generator=generator), torch.randn(2, 3, generator=generator)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    turned = run(x @ rotation, bases @ rotation, 1.0, 1, "layer").bases
    assert (turned - run(x, bases, 1.0, 1, "layer").bases @ rotation).abs().max() > 0.01


@pytest.mark.parametrize("normalization", ALL)
@given(problem=problems(max_pixels=12))
@quickly
def test_a_duplicated_pixel_weighs_double(normalization, problem):
    x, bases, concentration, iterations = problem
    weights = torch.ones(x.shape[-2], dtype=x.dtype)
    weights[0] = 2
    doubled = torch.cat([x, x[..., :1, :]], dim=-2)
    mu = bases
    for _ in range(iterations):
        z = em.responsibilities(x, mu, concentration=concentration, normalization=normalization)
        mu = em.update_bases(x, z * weights[:, None], normalization=normalization)
    result = run(doubled, bases, concentration, iterations, normalization)
    torch.testing.assert_close(result.bases, mu, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("normalization", ALL)
@given(problem=problems())
@quickly
def test_rows_sum_to_one_and_the_reestimate_has_rank_k(normalization, problem):
    num_bases = problem[1].shape[-2]
    result = run(*problem, normalization)
    sums = result.responsibilities.sum(dim=-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    values = torch.linalg.svdvals(em.reconstruct(result.responsibilities, result.bases))
    assert (values[..., num_bases:] <= 1e-10 * (1 + values[..., :1])).all()


@given(problem=problems())
@quickly
def test_one_basis_is_the_mean(problem):
    x, bases, *rest = problem
    mean = x.mean(dim=-2, keepdim=True)
    for normalization in ("none", "gaussian"):
        torch.testing.assert_close(run(x, bases[..., :1, :], *rest, normalization).bases, mean)
    torch.testing.assert_close(
        run(x, bases[..., :1, :], *rest, "l2").bases, F.normalize(mean, dim=-1)
    )


@pytest.mark.parametrize("normalization", ALL)
@given(problem=problems())
@settings(deadline=None, max_examples=6)
def test_single_precision_agrees_with_double(normalization, problem):
    x, bases, concentration, _ = problem
    double = run(x, bases, min(concentration, 1.0), 2, normalization)
    single = run(x.float(), bases.float(), min(concentration, 1.0), 2, normalization)
    assert single.bases.dtype == single.responsibilities.dtype == torch.float32
    torch.testing.assert_close(
        single.responsibilities.double(), double.responsibilities, rtol=0, atol=2e-3
    )


@pytest.mark.parametrize("normalization", ALL)
def test_scale_and_concentration_are_one_dial_only_where_bases_are_normalised(normalization):
    x, bases = draw(0, 30, 4), em.normalize(draw(1, 3, 4), "l2")
    for iterations, same in ((1, True), (3, normalization in ("l2", "layer"))):
        long = run(3 * x, bases, 0.5, iterations, normalization).responsibilities
        warm = run(x, bases, 1.5, iterations, normalization).responsibilities
        assert bool((long - warm).abs().max() < 1e-3) == same
    # From bases of several lengths the Gaussian iteration differs at once.
    several = bases * torch.arange(1, 4)[:, None]
    long = run(3 * x, several, 0.5, 1, normalization).responsibilities
    warm = run(x, several, 1.5, 1, normalization).responsibilities
    assert bool((long - warm).abs().max() < 1e-3) == (normalization != "gaussian")


def test_rank_counts_different_bases_and_ends_at_the_relu():
    z = torch.softmax(draw(0, 500, 6), dim=-1)
    estimate = em.reconstruct(z, draw(1, 5, 64)[[0, 0, 1, 2, 3, 4]])
    assert torch.linalg.matrix_rank(estimate) == 5
    assert torch.linalg.matrix_rank(estimate - estimate.mean(dim=0), atol=1e-9, rtol=0) == 4
    assert torch.linalg.matrix_rank(estimate.relu()) > 50


# ---- in the unit --------------------------------------------------------------------------------


def test_the_unit_accepts_the_gaussian_variant():
    torch.manual_seed(0)
    unit = EMAU(8, num_bases=4, normalization="gaussian")
    result = unit.attend(torch.randn(2, 8, 5, 5), trace=True)
    assert falls(result.objective) < 1e-6
    assert unit(torch.randn(2, 8, 5, 5)).shape == (2, 8, 5, 5)
