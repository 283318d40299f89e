r"""The von Mises-Fisher density, :math:`c_C(\kappa)\, e^{\kappa\, \mu^\top x}` on the unit sphere.

Its constant is a Bessel function of order C/2 - 1, which torch does not have; these are
smooth from κ = 0 on, for any number of channels C, and differentiable.
"""

import math
from fractions import Fraction
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


def log_vmf_normalizer(kappa: Float[Tensor, "*b"], channels: int) -> Float[Tensor, "*b"]:
    r"""The constant of the von Mises-Fisher density, for any C ≥ 2 and κ ≥ 0.

    .. math:: \log c_C(\kappa) = \nu \log \kappa - (\nu + 1) \log 2\pi - \log I_\nu(\kappa),
        \qquad \nu = C/2 - 1

    It is computed as :math:`\log\frac{\Gamma(C/2)}{2 \pi^{C/2}} - \log {}_0F_1(;\tfrac C2;
    \tfrac{\kappa^2}{4})`, the uniform density's constant and a smooth function that starts at 0,
    and is differentiable as often as one likes.

    Source: Banerjee et al., JMLR 2005, Eq. 2.2.
    """
    uniform = math.lgamma(channels / 2) - math.log(2) - channels / 2 * math.log(math.pi)
    return (uniform - _log_bessel(kappa.double(), channels)[0]).to(kappa.dtype)


def mean_resultant_length(kappa: Float[Tensor, "*b"], channels: int) -> Float[Tensor, "*b"]:
    r""":math:`A_C(\kappa) = I_{C/2}(\kappa) / I_{C/2-1}(\kappa) = \lVert \mathbb E\,x \rVert`.

    It is also :math:`-\partial \log c_C / \partial \kappa`, from 0 (uniform) up to 1 (one point).
    It increases, because its derivative :math:`A' = 1 - A^2 - \frac{C-1}{\kappa} A` is the variance
    of :math:`\mu^\top x`; and it is concave. Near 0 it is, :math:`A` being :math:`\frac\kappa C -
    \frac{\kappa^3}{C^2(C+2)} + \dots` At a first place with :math:`A'' = 0` the third derivative
    could not be negative; but A is concave up to there, so that :math:`A' \le A/\kappa`, and the
    equation for A', differentiated twice, gives :math:`A^{(3)} = -2A'^2 +
    \frac{2(C-1)}{\kappa^2} (A' - \frac A\kappa) < 0`.
    """
    wide = kappa.double()
    return (wide * _log_bessel(wide, channels)[1] / channels).to(kappa.dtype)


_DEBYE_ORDER = 32.0  # from here on 9 terms of Debye's expansion are exact to rounding
_DEBYE_TERMS = 9


def _log_bessel(kappa: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    r"""g_ν = log 0F1(;ν+1;κ²/4) and ρ_ν = 0F1(;ν+2;κ²/4) / 0F1(;ν+1;κ²/4), ν = C/2 - 1.

    Debye's expansion, uniform in κ (DLMF 10.41.3), at the order ν + m ≥ 32, written so that all
    of its terms vanish at κ = 0; then down to ν by the stable direction of the Bessel recurrence,
    in which ρ_{ν-1} = 1 / (1 + κ² ρ_ν / (4 ν (ν + 1))) and g_{ν-1} = g_ν - log ρ_{ν-1}.
    """
    order = channels / 2 - 1
    steps = max(0, math.ceil(_DEBYE_ORDER - order))
    top = order + steps
    g = _debye(kappa, top)
    rho = torch.exp(_debye(kappa, top + 1) - g)
    quarter = kappa.square() / 4
    for step in range(steps):
        upper = top - step
        rho = 1 / (1 + quarter * rho / (upper * (upper + 1)))
        g = g - rho.log()
    return g, rho


def _debye(kappa: Tensor, order: float) -> Tensor:
    """Function g at a large order: leading term and the two sums of its correction."""
    z2 = (kappa / order).square()
    root = torch.sqrt(1 + z2)
    excess = z2 / (1 + root)  # root - 1 without cancellation
    p = 1 / root
    series, at_zero = torch.zeros_like(p), 0.0
    for k, polynomial in enumerate(_debye_polynomials()):
        value, one = torch.zeros_like(p), 0.0
        for coefficient in reversed(polynomial):
            value, one = value * p + coefficient, one + coefficient
        series = series + value / order**k
        at_zero += one / order**k
    leading = order * (excess - torch.log1p(excess / 2)) - 0.5 * torch.log1p(excess)
    return leading + torch.log(series / at_zero)


@lru_cache(maxsize=1)
def _debye_polynomials() -> tuple[tuple[float, ...], ...]:
    r"""Coefficients of u_0 … u_8, lowest power first (DLMF 10.41.9).

    u_{k+1} = ½ p² (1 - p²) u_k' + ⅛ ∫ (1 - 5t²) u_k dt, the integral from 0 to p.
    """
    u = [Fraction(1)]
    found = [u]
    for _ in range(_DEBYE_TERMS - 1):
        following = [Fraction(0)] * (len(u) + 3)
        for power, c in enumerate(u):
            following[power + 1] += c * power / 2 + c / (8 * (power + 1))
            following[power + 3] -= c * power / 2 + 5 * c / (8 * (power + 3))
        u = following
        found.append(u)
    return tuple(tuple(float(c) for c in polynomial) for polynomial in found)


def solve_scale(
    norms: Float[Tensor, "*b n"], resultant: Float[Tensor, "*b"], channels: int
) -> Float[Tensor, "*b"]:
    """λ with Σ_n r_n A_C(λ r_n) = R, by Newton's method, kept positive.

    The left side is concave and increasing in λ: after one step Newton comes from below and never
    overshoots. The last step is taken with gradients, and so carries those of the solution.
    """
    r = norms.double()
    total = r.sum(dim=-1)
    target = torch.minimum(resultant.double(), (1 - 1e-6) * total)

    def newton(scale: Tensor) -> Tensor:
        kappa = scale.unsqueeze(-1) * r
        rho = _log_bessel(kappa.detach(), channels)[1]
        slope = 1 - (kappa * rho / channels).square() - (channels - 1) / channels * rho
        value = (r * mean_resultant_length(kappa, channels)).sum(dim=-1)
        step = (target - value) / (r.square() * slope.detach()).sum(dim=-1)
        return torch.maximum(scale + step, scale / 10)

    with torch.no_grad():
        mean = target / total
        scale = mean * (channels - mean.square()) / (1 - mean.square()) / r.mean(dim=-1)
        for _ in range(25):
            before, scale = scale, newton(scale)
            if torch.allclose(scale, before, rtol=1e-10, atol=0):
                break
    return newton(scale).to(norms.dtype)
