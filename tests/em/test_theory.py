"""What the book proves about the iteration, executed: theorems, counter-examples, identities."""

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from emastudy import EMAU, em
from emastudy.em.mixtures import GaussianMixture, VonMisesFisherMixture, fit, kmeans
from emastudy.em.relatives import double_attention, factorize, non_local, slot_attention

EXACT = ("l2", "gaussian")
ALL = ("l2", "layer", "none", "gaussian")
quickly = settings(deadline=None, max_examples=10)


@st.composite
def problems(draw, *, max_pixels=30):
    """x, μ^(0) on the unit sphere, λ and T of a random shape and scale, in float64."""
    channels, num_bases = draw(st.integers(2, 6)), draw(st.integers(1, 5))
    pixels = draw(st.integers(num_bases, max_pixels))
    batch = draw(st.sampled_from([(), (2,)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0]))
    x = torch.randn(*batch, pixels, channels, generator=generator, dtype=torch.float64) * scale
    bases = torch.randn(*batch, num_bases, channels, generator=generator, dtype=torch.float64)
    return (
        x,
        em.normalize(bases, "l2"),
        draw(st.sampled_from([0.1, 1.0, 4.0])),
        draw(st.integers(1, 4)),
    )


def run(x, bases, concentration, iterations, normalization):
    return em.expectation_maximization(
        x, bases, iterations, concentration=concentration, normalization=normalization
    )


def falls(objective):
    """Largest fall of a trace, relative to its size; ≤ 0 where it never falls."""
    return float((-objective.diff(dim=-1) / (1 + objective[..., 1:].abs())).max())


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


@given(problem=problems())
@quickly
def test_layer_is_l2_on_centred_features_with_concentration_sqrt_c(problem):
    x, bases, concentration, iterations = problem
    root = x.shape[-1] ** 0.5
    if x.shape[-1] == 2:  # centred vectors of two channels have two directions: LayerNorm is a sign
        return
    bases = em.normalize(bases - bases.mean(dim=-1, keepdim=True), "l2")
    centred = x - x.mean(dim=-1, keepdim=True)
    layer = run(x, root * bases, concentration, iterations, "layer")
    l2 = run(centred, bases, root * concentration, iterations, "l2")
    # LayerNorm adds 1e-5 to the variance: equal where the sums are not small.
    sums = layer.responsibilities.mT @ centred / layer.responsibilities.sum(-2).unsqueeze(-1)
    if sums.norm(dim=-1).min() > 1:
        torch.testing.assert_close(layer.bases, root * l2.bases, rtol=1e-2, atol=1e-2)


@given(problem=problems())
@quickly
def test_layer_falls_at_its_first_step_alone(problem):
    x, bases, concentration, iterations = problem
    objective = run(10 * x, bases, concentration, iterations + 1, "layer").objective
    assert falls(objective[..., 1:]) < 1e-3  # what LayerNorm's own 1e-5 leaves


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


# ---- limits and identities ----------------------------------------------------------------------


@pytest.mark.parametrize("normalization", EXACT)
@given(problem=problems())
@quickly
def test_infinite_concentration_is_kmeans(normalization, problem):
    x, bases, _, iterations = problem
    hard = kmeans(x, bases, iterations, spherical=normalization == "l2")
    if (hard.responsibilities.sum(dim=-2) == 0).any():  # a basis without a pixel
        return
    soft = run(x, bases, 1e12, iterations, normalization)
    torch.testing.assert_close(soft.responsibilities, hard.responsibilities)
    assert falls(hard.objective) < 1e-12


@given(problem=problems())
@quickly
def test_non_local_is_reestimation_with_the_pixels_as_bases(problem):
    x, _, concentration, _ = problem
    z = em.responsibilities(x, x, concentration=concentration)
    torch.testing.assert_close(
        non_local(x, concentration=concentration), em.reconstruct(z, x), rtol=1e-6, atol=1e-9
    )


@given(problem=problems())
@quickly
def test_double_attention_is_one_iteration(problem):
    x, bases, concentration, _ = problem
    # θ and ρ with the bases for weights; θ's softmax over pixels is an M step whose
    # responsibilities are softmax_k of logits shifted by Σ_j exp(·) per pixel.
    logits = concentration * x @ bases.mT
    gather = torch.log_softmax(logits, dim=-1)
    estimate = double_attention(x, gather, logits)
    one = run(x, bases, concentration, 1, "none")
    torch.testing.assert_close(estimate, em.reconstruct(one.responsibilities, one.bases))


@given(problem=problems())
@quickly
def test_slot_attention_is_ema_with_normalised_queries(problem):
    x, bases, concentration, _ = problem
    slots = slot_attention(x, bases, 1, concentration=concentration)
    one = run(x, em.normalize(bases, "layer"), concentration, 1, "none")
    torch.testing.assert_close(slots.bases, one.bases)


@given(problem=problems())
@quickly
def test_factorisation_never_gets_worse(problem):
    x, bases, _, iterations = problem
    result = factorize(x.abs(), bases.abs() + 0.1, iterations)
    assert falls(result.objective) < 1e-10
    assert (result.responsibilities >= 0).all()


def test_factorisation_refuses_negative_features():
    with pytest.raises(ValueError, match="ReLU"):
        factorize(-torch.ones(3, 2), torch.ones(1, 2))


# ---- in the unit --------------------------------------------------------------------------------


def test_the_unit_accepts_the_gaussian_variant():
    torch.manual_seed(0)
    unit = EMAU(8, num_bases=4, normalization="gaussian")
    result = unit.attend(torch.randn(2, 8, 5, 5), trace=True)
    assert falls(result.objective) < 1e-6
    assert unit(torch.randn(2, 8, 5, 5)).shape == (2, 8, 5, 5)
