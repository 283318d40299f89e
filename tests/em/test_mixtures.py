"""The mixtures against independent implementations, and their bad inputs."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.cluster
import sklearn.mixture
import torch
from hypothesis import given, settings
from torch.autograd import gradcheck

from emastudy.em.mixtures import (
    ConvergenceWarning,
    GaussianMixture,
    VonMisesFisherMixture,
    fit,
    kmeans,
)

quickly = settings(deadline=None, max_examples=6)
families = st.one_of(
    st.builds(
        GaussianMixture,
        covariance=st.sampled_from(["full", "diagonal", "isotropic", "identity"]),
        learn_weights=st.booleans(),
        concentration=st.sampled_from([0.3, 1.0, 3.0]),
        floor=st.just(0.0),
    ),
    st.builds(
        GaussianMixture,
        covariance=st.just("identity"),
        learn_weights=st.booleans(),
        unit_means=st.just(True),
    ),
    st.builds(
        VonMisesFisherMixture,
        concentration=st.sampled_from(["shared", "per_sample"]),
        scale=st.sampled_from([0.5, 2.0, 10.0]),
        learn_scale=st.booleans(),
        learn_weights=st.booleans(),
    ),
)


def draw_problem(seed, *, batch=(), pixels=60, num_bases=3, channels=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    centers = 3 * torch.randn(*batch, num_bases, channels, generator=generator, dtype=dtype)
    which = torch.arange(pixels) % num_bases
    noise = torch.randn(*batch, pixels, channels, generator=generator, dtype=dtype)
    return centers[..., which, :] + noise, centers + 0.5


# ---- any mixture --------------------------------------------------------------------------------


@given(mixture=families, seed=st.integers(0, 10**6), batch=st.sampled_from([(), (2,), (2, 1)]))
@settings(deadline=None, max_examples=15)
def test_likelihood_never_falls_and_is_the_largest_free_energy(mixture, seed, batch):
    x, bases = draw_problem(seed, batch=batch)
    fitted = fit(x, bases, mixture, num_iterations=4, tolerance=None)
    assert fitted.objective.shape == (*batch, 5)
    drops = -fitted.objective.diff(dim=-1) / (1 + fitted.objective[..., 1:].abs())
    assert drops.max() < 1e-10
    z, parameters = fitted.responsibilities, fitted.parameters
    torch.testing.assert_close(z.sum(dim=-1), torch.ones_like(z[..., 0]))
    torch.testing.assert_close(
        parameters.weights.sum(dim=-1), torch.ones(batch, dtype=torch.float64)
    )
    likelihood = mixture.log_likelihood(x, parameters)
    torch.testing.assert_close(likelihood, fitted.objective[..., -1])
    torch.testing.assert_close(mixture.free_energy(x, z, parameters), likelihood)
    flat = torch.full_like(z, 1 / z.shape[-1])
    gap = (flat * (flat.log() - torch.log_softmax(mixture.log_joint(x, parameters), -1))).sum(-1)
    torch.testing.assert_close(
        mixture.free_energy(x, flat, parameters), likelihood - gap.sum(dim=-1)
    )


@given(mixture=families, seed=st.integers(0, 10**6))
@quickly
def test_a_batch_is_its_images_one_by_one(mixture, seed):
    x, bases = draw_problem(seed, batch=(2,))
    together = fit(x, bases, mixture, num_iterations=3, tolerance=None)
    alone = fit(x[1], bases[1], mixture, num_iterations=3, tolerance=None)
    torch.testing.assert_close(together.responsibilities[1], alone.responsibilities)
    torch.testing.assert_close(together.parameters.spread[1], alone.parameters.spread)


@given(mixture=families, seed=st.integers(0, 10**6))
@quickly
def test_single_precision_agrees_with_double(mixture, seed):
    x, bases = draw_problem(seed)
    double = fit(x, bases, mixture, num_iterations=2, tolerance=None)
    single = fit(x.float(), bases.float(), mixture, num_iterations=2, tolerance=None)
    assert {t.dtype for t in (*single.parameters, single.objective)} == {torch.float32}
    torch.testing.assert_close(single.objective.double(), double.objective, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    "mixture",
    [
        *(GaussianMixture(kind) for kind in ("full", "diagonal", "isotropic", "identity")),
        VonMisesFisherMixture("per_sample", learn_scale=True, learn_weights=True),
        VonMisesFisherMixture("shared", scale=3.0),
    ],
    ids=str,
)
def test_gradients_of_the_likelihood_after_two_iterations(mixture):
    x, bases = draw_problem(3, pixels=5, num_bases=2, channels=3)

    def likelihood(x, bases):
        return fit(x, bases, mixture, num_iterations=2, tolerance=None).objective

    assert gradcheck(likelihood, (x.requires_grad_(), bases.requires_grad_()), atol=1e-4)


def test_convergence_is_told_and_its_lack_warned_of():
    x, bases = draw_problem(0)
    fitted = fit(x, bases, GaussianMixture(), num_iterations=200)
    assert fitted.converged
    assert fitted.objective.shape[-1] < 200
    with pytest.warns(ConvergenceWarning, match="raise num_iterations"):
        assert not fit(x, bases, GaussianMixture(), num_iterations=1).converged


# ---- Gaussian -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"), [("full", "full"), ("diagonal", "diag"), ("isotropic", "spherical")]
)
def test_gaussian_mixture_agrees_with_scikit_learn(ours, theirs):
    x, bases = draw_problem(5, pixels=150, num_bases=3, channels=4)
    eye = np.eye(4)
    precisions = {"full": np.stack([eye] * 3), "diag": np.ones((3, 4)), "spherical": np.ones(3)}
    other = sklearn.mixture.GaussianMixture(
        3,
        covariance_type=theirs,
        tol=1e-10,
        max_iter=500,
        weights_init=np.full(3, 1 / 3),
        means_init=bases.numpy(),
        precisions_init=precisions[theirs],
    ).fit(x.numpy())
    fitted = fit(x, bases, GaussianMixture(ours), num_iterations=500, tolerance=1e-10)
    np.testing.assert_allclose(fitted.parameters.bases, other.means_, atol=1e-5)
    np.testing.assert_allclose(fitted.parameters.weights, other.weights_, atol=1e-5)
    np.testing.assert_allclose(
        fitted.parameters.spread.squeeze(-1) if ours == "isotropic" else fitted.parameters.spread,
        other.covariances_,
        atol=5e-5,
    )
    np.testing.assert_allclose(fitted.responsibilities, other.predict_proba(x.numpy()), atol=1e-4)
    np.testing.assert_allclose(fitted.objective[-1] / len(x), other.score(x.numpy()), atol=1e-6)


def test_log_joint_agrees_with_scipy():
    x, bases = draw_problem(1, pixels=10, num_bases=2, channels=3)
    mixture = GaussianMixture("full")
    parameters = mixture.m_step(x, mixture.e_step(x, mixture.start(bases)))
    for k in range(2):
        density = scipy.stats.multivariate_normal(
            parameters.bases[k].numpy(), parameters.spread[k].numpy()
        )
        expected = density.logpdf(x.numpy()) + math.log(parameters.weights[k])
        np.testing.assert_allclose(mixture.log_joint(x, parameters)[:, k], expected)


def test_unit_means_are_the_likeliest_on_the_sphere():
    x, bases = draw_problem(3)
    mixture = GaussianMixture("identity", learn_weights=False, unit_means=True)
    z = mixture.e_step(x, mixture.start(bases))
    best = mixture.m_step(x, z)
    torch.testing.assert_close(best.bases.norm(dim=-1), torch.ones(3, dtype=torch.float64))
    value = mixture.free_energy(x, z, best)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        turned = best.bases + 0.1 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
        turned = torch.nn.functional.normalize(turned, dim=-1)
        assert mixture.free_energy(x, z, best._replace(bases=turned)) < value


def test_kmeans_agrees_with_scikit_learn():
    x, bases = draw_problem(7, pixels=200, num_bases=4, channels=3)
    other = sklearn.cluster.KMeans(4, init=bases.numpy(), n_init=1, tol=0, max_iter=50).fit(x)
    ours = kmeans(x, bases, 50)
    np.testing.assert_allclose(ours.bases, other.cluster_centers_, atol=1e-8)
    np.testing.assert_array_equal(ours.responsibilities.argmax(dim=-1), other.labels_)
    np.testing.assert_allclose(-2 * ours.objective[-1], other.inertia_)


# ---- von Mises-Fisher ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 20])
def test_density_agrees_with_scipy(channels):
    x, bases = draw_problem(2, pixels=12, num_bases=2, channels=channels)
    shared = VonMisesFisherMixture("shared", scale=4.0)
    per_sample = VonMisesFisherMixture("per_sample", scale=4.0)
    parameters = shared.start(bases)
    directions = torch.nn.functional.normalize(x, dim=-1)
    for k in range(2):
        mean = parameters.bases[k].numpy()
        density = scipy.stats.vonmises_fisher(mean, 4.0).logpdf(directions.numpy())
        np.testing.assert_allclose(shared.log_joint(x, parameters)[:, k], density - math.log(2))
        each = [
            scipy.stats.vonmises_fisher(mean, 4.0 * float(row.norm())).logpdf(unit.numpy())
            for row, unit in zip(x, directions, strict=True)
        ]
        np.testing.assert_allclose(
            per_sample.log_joint(x, parameters)[:, k], np.ravel(each) - math.log(2), rtol=1e-6
        )


def test_learnt_concentration_agrees_with_scipy_and_is_a_maximum():
    true = scipy.stats.vonmises_fisher(np.eye(5)[0], 30.0)
    sample = true.rvs(2000, random_state=0)
    mean, kappa = scipy.stats.vonmises_fisher.fit(sample)
    x = torch.from_numpy(sample)
    mixture = VonMisesFisherMixture("shared", learn_scale=True)
    fitted = fit(x, x[:1], mixture).parameters
    np.testing.assert_allclose(fitted.bases[0], mean, atol=1e-8)
    assert fitted.spread.item() == pytest.approx(kappa, rel=1e-6)
    # with features of many lengths: no other λ is likelier
    x = x * torch.linspace(0.1, 5, 2000, dtype=torch.float64)[:, None]
    mixture = VonMisesFisherMixture("per_sample", learn_scale=True)
    best = fit(x, x[:1], mixture).parameters
    value = mixture.log_likelihood(x, best)
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert mixture.log_likelihood(x, best._replace(spread=best.spread * factor)) < value


# ---- bad input ----------------------------------------------------------------------------------

GOOD = torch.ones(4, 2) + torch.eye(4, 2)


@pytest.mark.parametrize("mixture", [GaussianMixture(), VonMisesFisherMixture()], ids=str)
@pytest.mark.parametrize(
    ("x", "bases", "fix"),
    [
        (GOOD * torch.nan, GOOD[:2], "drop those rows"),
        (GOOD, GOOD[:2] / 0, "drop those rows"),
        (GOOD, GOOD[:2, :1], "feature dimension"),
        (GOOD[:1], GOOD[:2], "K ≤ N"),
    ],
)
def test_data_that_cannot_be_fitted_is_refused_with_the_fix(mixture, x, bases, fix):
    with pytest.raises(ValueError, match=fix):
        mixture.check(x, bases)  # what fit does first


@pytest.mark.parametrize(("x", "bases"), [(GOOD * 0, GOOD[:2]), (GOOD, GOOD[:2] * 0)])
def test_zero_vectors_have_no_direction(x, bases):
    with pytest.raises(ValueError, match="GaussianMixture"):
        fit(x, bases, VonMisesFisherMixture())


def test_one_channel_has_no_directions():
    with pytest.raises(ValueError, match="C ≥ 2"):
        fit(GOOD[:, :1], GOOD[:2, :1], VonMisesFisherMixture())


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: GaussianMixture(concentration=0.0), "concentration"),
        (lambda: GaussianMixture(floor=-1.0), "floor"),
        (lambda: GaussianMixture("full", unit_means=True), "unit_means"),
        (lambda: VonMisesFisherMixture(scale=math.inf), "scale"),
        (lambda: fit(GOOD, GOOD[:2], GaussianMixture(), num_iterations=0), "num_iterations"),
        (lambda: kmeans(GOOD, GOOD[:2], 0), "num_iterations"),
    ],
)
def test_arguments_out_of_range_are_named(make, field):
    with pytest.raises(ValueError, match=field):
        make()
