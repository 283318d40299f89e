"""Bessel functions of the von Mises-Fisher density against scipy's, DLMF's and derivatives."""

import math

import numpy as np
import pytest
import scipy.special
import torch
from torch.autograd import gradcheck, gradgradcheck

from emastudy.em import von_mises_fisher
from emastudy.em.von_mises_fisher import log_vmf_normalizer, mean_resultant_length


@pytest.mark.parametrize("channels", [2, 3, 4, 7, 16, 63, 64, 65, 66, 128, 512, 2048])
def test_bessel_terms_agree_with_scipy(channels):
    kappa = np.array([0.1, 1, 5, 20, 100, 500, 2000, 1e4, 1e5])
    order = channels / 2 - 1
    scaled = scipy.special.ive(order, kappa)
    known = scaled > 0  # scipy underflows where κ is small against the order
    kappa, scaled = kappa[known], scaled[known]
    expected = (
        order * np.log(kappa) - (order + 1) * math.log(2 * math.pi) - (np.log(scaled) + kappa)
    )
    tensor = torch.from_numpy(kappa)
    np.testing.assert_allclose(log_vmf_normalizer(tensor, channels), expected, rtol=1e-13)
    ratio = scipy.special.ive(order + 1, kappa) / scaled
    np.testing.assert_allclose(mean_resultant_length(tensor, channels), ratio, rtol=1e-9)


@pytest.mark.parametrize("channels", [2, 3, 64, 512, 2048])
def test_bessel_terms_at_zero_and_their_derivatives(channels):
    uniform = math.lgamma(channels / 2) - math.log(2) - channels / 2 * math.log(math.pi)
    zero = torch.zeros(1, dtype=torch.float64)
    assert log_vmf_normalizer(zero, channels).item() == pytest.approx(uniform, rel=1e-14)
    kappa = torch.tensor([0.0, 1e-3, 2.0, 50.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda k: log_vmf_normalizer(k, channels), kappa)
    assert gradgradcheck(lambda k: log_vmf_normalizer(k, channels), kappa)
    (slope,) = torch.autograd.grad(log_vmf_normalizer(kappa, channels).sum(), kappa)
    torch.testing.assert_close(slope, -mean_resultant_length(kappa, channels))
    single = log_vmf_normalizer(kappa.float(), channels)
    assert single.dtype == torch.float32
    torch.testing.assert_close(
        single.double(), log_vmf_normalizer(kappa, channels), rtol=1e-6, atol=0
    )


def test_debye_polynomials_are_the_published_ones():
    # DLMF 10.41.10: u_1 = (3p - 5p³)/24, u_2 = (81p² - 462p⁴ + 385p⁶)/1152
    _, first, second, *_ = von_mises_fisher._debye_polynomials()
    assert first == pytest.approx((0, 3 / 24, 0, -5 / 24))
    assert second == pytest.approx((0, 0, 81 / 1152, 0, -462 / 1152, 0, 385 / 1152))


@pytest.mark.parametrize("channels", [2, 3, 8, 64, 512])
def test_mean_resultant_length_increases_and_is_concave(channels):
    # What makes Newton's method in solve_scale come from below; its proof is in the docstring.
    kappa = torch.logspace(-2, 1.5, 300, dtype=torch.float64) * channels
    kappa = kappa.requires_grad_()
    value = mean_resultant_length(kappa, channels)
    (slope,) = torch.autograd.grad(value.sum(), kappa, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), kappa)
    assert (slope > 0).all()
    assert (curvature < 0).all()
    expected = 1 - value.square() - (channels - 1) / kappa * value
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-9)
    third = -2 * slope.square() + 2 * (channels - 1) / kappa.square() * (slope - value / kappa)
    assert (third < 0).all()  # the third derivative wherever the second were 0
