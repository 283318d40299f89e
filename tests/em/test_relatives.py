"""EMA's relatives and limits: identities, executed."""

import hypothesis.strategies as st
import pytest
import torch
from em.problems import ALL, EXACT, doubles, draw, falls, problems, run
from hypothesis import given, settings

from emastudy import em
from emastudy.em.mixtures import kmeans
from emastudy.em.relatives import (
    attention_matrix,
    double_attention,
    factorize,
    non_local,
    slot_attention,
)

quickly = settings(deadline=None, max_examples=10)


@pytest.mark.parametrize("normalization", ALL)
@given(problem=problems())
@quickly
def test_the_attention_matrix_gives_the_reestimate(normalization, problem):
    x, bases, *_ = problem
    result = run(*problem, normalization)
    matrix = attention_matrix(x, result.responsibilities, normalization=normalization)
    seen = x - x.mean(dim=-1, keepdim=True) if normalization == "layer" else x
    estimate = em.reconstruct(result.responsibilities, result.bases)
    torch.testing.assert_close(matrix @ seen, estimate, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(matrix, matrix.mT)
    values = torch.linalg.eigvalsh(matrix)
    assert (values > -1e-9 * (1 + values.abs().amax())).all()
    assert (torch.linalg.matrix_rank(matrix, rtol=1e-9) <= bases.shape[-2]).all()
    if normalization in ("none", "gaussian"):
        sums = matrix.sum(dim=-1)
        torch.testing.assert_close(sums, torch.ones_like(sums))
        assert values.max() < 1 + 1e-9
        torch.testing.assert_close(estimate.mean(dim=-2), x.mean(dim=-2))
        assert (estimate.var(dim=-2, correction=0) <= x.var(dim=-2, correction=0) + 1e-9).all()


@pytest.mark.parametrize("normalization", ALL)
def test_a_basis_that_no_pixel_chooses_is_no_part_of_the_attention_matrix(normalization):
    x = torch.eye(3, 2, dtype=torch.float64)
    z = torch.tensor([[1.0, 0], [1, 0], [1, 0]], dtype=torch.float64)
    matrix = attention_matrix(x, z, normalization=normalization)
    assert matrix.equal(attention_matrix(x, z[:, :1], normalization=normalization))


@pytest.mark.parametrize("normalization", EXACT)
@given(problem=problems())
@quickly
def test_infinite_concentration_is_kmeans(normalization, problem):
    x, bases, _, iterations = problem
    courses = [kmeans(x, bases, t + 1, spherical=normalization == "l2") for t in range(iterations)]
    if any((course.responsibilities.sum(dim=-2) == 0).any() for course in courses):
        return  # bases without a pixel, at some time, are in one place
    hard = courses[-1]
    soft = run(x, bases, 1e12, iterations, normalization)
    torch.testing.assert_close(soft.responsibilities, hard.responsibilities)
    assert falls(hard.objective) < 1e-12


@given(seed=st.integers(0, 10**6), spherical=st.booleans())
@quickly
def test_kmeans_never_falls_even_where_bases_lose_all_pixels(seed, spherical):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-3, 4, (6, 2), generator=generator).double()
    bases = torch.randint(-3, 4, (4, 2), generator=generator).double()
    if spherical:
        bases = em.normalize(bases, "l2")
    assert falls(kmeans(x, bases, 6, spherical=spherical).objective) < 1e-12


def test_twins_share_under_em_at_any_concentration_and_not_under_kmeans():
    x, bases = draw(0, 8, 3), em.normalize(draw(1, 2, 3)[[0, 0, 1]], "l2")
    shared = run(x, bases, 1e9, 1, "l2").bases
    torch.testing.assert_close(shared[0], shared[1])
    assert (kmeans(x, bases, 1, spherical=True).bases[1] == 0).all()


def test_mean_shift_finds_modes_and_blurring_makes_one_point():
    place = doubles([[-2, 0], [1.5, 1.5], [1, -1.8]])
    points = place[torch.arange(90) % 3] + 0.6 * draw(0, 90, 2)
    shift = blur = points
    for _ in range(200):
        shift = em.reconstruct(em.responsibilities(shift, points, normalization="gaussian"), points)
        blur = em.reconstruct(em.responsibilities(blur, blur, normalization="gaussian"), blur)
    different = [len(torch.unique(end.round(decimals=2), dim=0)) for end in (shift, blur)]
    assert different == [3, 1]


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


def test_double_attention_gathers_these_bases_up_to_a_constant_for_each():
    x, bases = draw(0, 100, 12), em.normalize(draw(1, 6, 12), "l2")
    logits = x @ bases.mT
    gather = torch.log_softmax(logits, dim=-1)
    one = run(x, bases, 1.0, 1, "none")
    expected = em.reconstruct(one.responsibilities, one.bases)
    torch.testing.assert_close(double_attention(x, gather + draw(2, 6), logits), expected)
    # Of one image with N > C other weights have the same means: not the map, the image.
    weights = torch.softmax(gather, dim=0)
    across = torch.linalg.svd(torch.cat([x, torch.ones(100, 1)], dim=1)).U[:, 13:]
    change = across @ across.mT @ draw(3, 100, 6)
    other = weights + 0.9 * (weights / change.abs()).amin(dim=0) * change
    torch.testing.assert_close(double_attention(x, other.log(), logits), expected)
    assert ((other / weights).log() - (other / weights).log().mean(dim=0)).abs().max() > 0.5
    # Of two different pixels there are none: their means give the weights away, which sum to one.
    for pair in (x[:2], x[:1] * doubles([[1], [2]]), x[:1] * doubles([[0], [1]])):
        inner = torch.softmax(torch.log_softmax(pair @ bases.mT, dim=-1), dim=0)
        summed = torch.cat([pair, torch.ones(2, 1)], dim=1).mT
        found = torch.linalg.lstsq(summed, summed @ inner, driver="gelsd").solution
        torch.testing.assert_close(found, inner)


@given(problem=problems())
@quickly
def test_slot_attention_is_ema_with_normalised_queries(problem):
    x, bases, concentration, _ = problem
    slots = slot_attention(x, bases, 1, concentration=concentration)
    one = run(x, em.normalize(bases, "layer"), concentration, 1, "none")
    torch.testing.assert_close(slots.bases, one.bases)
    with pytest.raises(ValueError, match="num_iterations is 0; expected at least 1"):
        slot_attention(x, bases, 0)


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
