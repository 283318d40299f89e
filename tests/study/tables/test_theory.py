"""What the chapters of theory check, on problems whose answer is known."""

from functools import partial
from itertools import pairwise

import pytest
import torch

from emastudy import em
from emastudy.em.relatives import non_local
from emastudy.study.tables import theory


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_pixels_as_bases_make_non_local_attention():
    x = normal(2, 30, 5)
    found = theory.retrieve(x, x, concentration=0.7)
    assert torch.allclose(found, non_local(x, concentration=0.7))


def test_f_falls_where_it_is_known_to_and_nowhere_else():
    """The counterexample of chapter 13 falls without normalisation, at every later step."""
    x = torch.tensor([[[0, -2], [-3, -3], [0, -2], [-2, -3]]], dtype=torch.float64)
    shares = theory.fall_shares(x, torch.eye(2, dtype=torch.float64), 1.0, iterations=5)
    assert shares.loc["none", "any later step"] == 1
    assert (shares.loc[["l2", "gaussian"]] == 0).all(axis=None)


def test_the_norm_of_a_jacobian_is_that_of_the_matrix():
    matrix = normal(6, 6)
    found = theory.jacobian_norm(lambda x: (matrix @ x.flatten()).reshape(2, 3), normal(2, 3))
    assert found == pytest.approx(torch.linalg.matrix_norm(matrix, 2).item())


def test_held_bases_bound_the_derivative_by_the_concentration():
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    between = partial(theory.retrieve, bases=opposite, concentration=2.0)
    assert theory.jacobian_norm(between, torch.zeros(1, 2).double()) == pytest.approx(2)


def test_the_likely_concentration_is_the_inverse_variance_of_unit_means():
    """Two means far apart on the sphere, with noise of a standard deviation of 0.05."""
    means = torch.tensor([[1.0, 0, 0], [0, 1, 0]], dtype=torch.float64)
    x = means.repeat(2000, 1) + 0.05 * normal(4000, 3)
    assert theory.likely_concentration(x, means) == pytest.approx(1 / 0.05**2, rel=0.05)


def test_stable_states_apart_are_counted():
    """Above their critical concentration two clusters hold two bases; far below they merge."""
    means = torch.tensor([[3.0, 1, 0], [3, -1, 0]], dtype=torch.float64)
    x = means.repeat(40, 1) + 0.1 * normal(80, 3)
    starts = em.normalize(normal(5, 2, 3, seed=1), "l2")
    assert theory.stable_and_apart(x, starts, 5.0) > 0
    assert theory.stable_and_apart(x, starts, 0.01) == 0


def test_an_iteration_moves_bases_by_the_distance_factor():
    x, bases = normal(30, 4), em.normalize(normal(2, 4, seed=1), "l2")
    ends = em.expectation_maximization(x, bases, 1, concentration=0.3).bases
    expected = (ends[0] - ends[1]).norm() / (bases[0] - bases[1]).norm()
    assert theory.distance_factor(x, bases, 0.3) == pytest.approx(expected.item())


def test_a_shared_start_is_the_moving_average_over_all_images():
    x, start = normal(3, 20, 4), em.normalize(normal(2, 4, seed=1), "l2")
    course = theory.shared_start(x, start, 1.5, 2, momentum=0.9)
    assert len(course) == 3
    for before, after in pairwise(course):
        ends = em.expectation_maximization(x, before, 3, concentration=1.5).bases
        assert torch.allclose(after, 0.9 * before + 0.1 * ends.mean(dim=0))


def test_an_update_of_the_shared_start_may_see_some_images_alone():
    x, start = normal(3, 20, 4), em.normalize(normal(2, 4, seed=1), "l2")
    course = theory.shared_start(x, start, 1.5, 8, images=1)
    chosen = []
    for before, after in pairwise(course):
        ends = em.expectation_maximization(x, before, 3, concentration=1.5).bases
        (match,) = [n for n in range(3) if torch.allclose(after, ends[n])]
        chosen.append(match)
    assert len(set(chosen)) > 1
    assert torch.equal(course, theory.shared_start(x, start, 1.5, 8, images=1))


def test_a_shared_start_at_rest_is_left():
    x, start = normal(3, 20, 4) + 2, em.normalize(normal(2, 4, seed=1), "l2")
    course = theory.shared_start(x, start, 0.01, 500, tolerance=1e-9)
    assert len(course) < 500
    assert (course[-1] - course[-2]).abs().max() < 1e-9
