r"""Gradients through EM: the Jacobian of an iteration, what it says of bases that coincide, and
four ways to differentiate X̃.

Floor: em. One iteration is a map M of the bases, :math:`\mu^{(t)} = M(\mu^{(t-1)}, X)`, with
Jacobian :math:`J = \partial M / \partial \mu` of K·C × K·C numbers. T unrolled iterations multiply
a gradient by T such Jacobians; at a fixed point :math:`\mu^* = M(\mu^*, X)` the implicit function
theorem replaces their infinite product by :math:`(I - J)^{-1}`.

Letters and shapes are those of :mod:`emastudy.em.steps`.
"""

from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from emastudy.em.steps import (
    Normalization,
    expectation_maximization,
    normalize,
    reconstruct,
    responsibilities,
)

Regime = Literal["detached", "one_step", "unrolled", "implicit"]


def jacobian(
    x: Float[Tensor, "*b n c"],
    bases: Float[Tensor, "*b k c"],
    *,
    concentration: float = 1.0,
    normalization: Normalization = "l2",
) -> Float[Tensor, "*b kc kc"]:
    r"""Jacobian of one iteration at ``bases``, bases in row-major order.

    For "l2", with :math:`m_k = \sum_n z_{nk} x_n` and :math:`P_k = I - \mu_k^+\mu_k^{+\top}`,

    .. math:: J_{kj} = \frac{\lambda}{\lVert m_k \rVert}\, P_k
        \sum_n z_{nk} (\delta_{kj} - z_{nj})\, x_n x_n^\top

    It is computed by automatic differentiation, for every normalisation alike.

    Args:
        x: Features, (…, N, C).
        bases: Where to differentiate, (…, K, C).
        concentration: λ.
        normalization: Of the iteration.

    Returns:
        J, (…, K·C, K·C); row = output, column = input.
    """
    start = bases.detach().clone().requires_grad_()
    with torch.enable_grad():
        end = _iterate(x.detach(), start, 1, concentration, normalization)
    count = bases.shape[-2] * bases.shape[-1]
    directions = torch.eye(count, dtype=end.dtype, device=end.device)
    directions = directions.reshape(count, *[1] * (bases.dim() - 2), *bases.shape[-2:])
    rows = [
        torch.autograd.grad(end, start, direction.expand_as(end), retain_graph=True)[0].flatten(-2)
        for direction in directions
    ]
    return torch.stack(rows, dim=-2)


def spectral_radius(matrix: Float[Tensor, "*b m m"]) -> Float[Tensor, "*b"]:
    """The largest modulus of an eigenvalue: the factor by which errors shrink or grow."""
    moduli: Tensor = torch.linalg.eigvals(matrix).abs()
    return moduli.amax(dim=-1)


def critical_concentration(
    x: Float[Tensor, "*b n c"], *, normalization: Normalization = "l2"
) -> Float[Tensor, "*b"]:
    r"""The λ above which bases that coincide come apart.

    Bases that all equal the normalised mean of the pixels are a fixed point at every λ. Near it an
    iteration multiplies the differences between bases by a matrix with real eigenvalues in
    proportion to λ: below :math:`\lambda_c` they shrink and the bases merge, above it they grow
    along its first eigenvectors. For "l2", with the mean m, the matrix of second moments S and
    :math:`P = I - mm^\top / \lVert m \rVert^2`,

    .. math:: \mu_k - \mu_j \leftarrow \frac{\lambda}{\lVert m \rVert} PSP\,(\mu_k - \mu_j),
        \qquad \lambda_c = \frac{\lVert m \rVert}{\text{largest eigenvalue of } PSP}.

    "layer" is "l2" on features centred over the channels and multiplied by √C. For "none" and
    "gaussian" the matrix is λ times the covariance. The proof is in chapter 13 of the book; the
    Gaussian case is Rose, Gurewitz and Fox's first phase transition (Physical Review Letters 65,
    1990).

    Args:
        x: Features, (…, N, C).
        normalization: Of the iteration.

    Returns:
        λ_c, (…); infinite where all pixels have one direction, 0 for "l2" if their mean is 0.

    Raises:
        ValueError: ``normalization`` is unknown.
    """
    if normalization == "layer":
        x, normalization = x.shape[-1] ** 0.5 * (x - x.mean(dim=-1, keepdim=True)), "l2"
    mean = x.mean(dim=-2, keepdim=True)
    if normalization in ("none", "gaussian"):
        length, apart = torch.ones_like(mean[..., 0, 0]), x - mean
    else:
        direction = normalize(mean, normalization)
        length = mean.norm(dim=-1).squeeze(-1)
        apart = x - (x * direction).sum(dim=-1, keepdim=True) * direction
    critical: Tensor = length * x.shape[-2] / torch.linalg.svdvals(apart)[..., 0].square()
    return critical


def unrolled_gradient_norms(
    x: Float[Tensor, "*b n c"],
    bases: Float[Tensor, "*b k c"],
    cotangent: Float[Tensor, "*b k c"],
    num_iterations: int,
    *,
    concentration: float = 1.0,
    normalization: Normalization = "l2",
) -> Float[Tensor, "*b t"]:
    r"""How a gradient changes on its way back through T iterations.

    Args:
        x: Features, (…, N, C).
        bases: μ^(0), (…, K, C).
        cotangent: G = ∂L/∂μ^(T), (…, K, C).
        num_iterations: T.
        concentration: λ.
        normalization: Of the iteration.

    Returns:
        ‖∂L/∂μ^(t)‖ for t = 0, …, T, (…, T+1).
    """
    states = [bases.detach().requires_grad_()]
    for _ in range(num_iterations):
        states.append(_iterate(x.detach(), states[-1], 1, concentration, normalization))
    gradients = torch.autograd.grad(states[-1], states, cotangent)
    return torch.stack([gradient.flatten(-2).norm(dim=-1) for gradient in gradients], dim=-1)


def reestimate(
    x: Float[Tensor, "*b n c"],
    bases: Float[Tensor, "*d k c"],
    num_iterations: int,
    *,
    regime: Regime,
    concentration: float = 1.0,
    normalization: Normalization = "l2",
) -> Float[Tensor, "*b n c"]:
    r"""X̃ after T iterations, with the gradient of the chosen regime.

    * "detached": a constant, as in the released code.
    * "one_step": through the last iteration, μ^(T-1) being a constant.
    * "unrolled": through all T iterations, down to μ^(0).
    * "implicit": as if μ^(T) were the fixed point μ*. With X̃ = Z(X, μ*) μ*, the gradient g that
      reaches μ* goes on as v through one iteration's dependence on X, where
      :math:`(I - J)^\top v = g`. Nothing reaches μ^(0). Memory does not grow with T; time is that
      of a dense solve of K·C equations.

    All regimes but "implicit" have the value of the paper's Eq. 14, whose Z is computed from
    μ^(T-1); at a fixed point the four values agree.

    Args:
        x: Features, (…, N, C).
        bases: μ^(0), (…, K, C).
        num_iterations: T ≥ 1; for "implicit" enough to converge.
        regime: Where the gradient goes.
        concentration: λ.
        normalization: Of the iteration.

    Returns:
        X̃, (…, N, C).

    Raises:
        ValueError: Unknown regime, or what ``expectation_maximization`` refuses.

    Source: Bai, Kolter, Koltun, "Deep equilibrium models", NeurIPS 2019, for the implicit one.
    """
    options: dict[str, Any] = {"concentration": concentration, "normalization": normalization}
    if regime == "unrolled":
        z, end, _ = expectation_maximization(x, bases, num_iterations, trace=False, **options)
        return reconstruct(z, end)
    if regime == "detached":
        with torch.no_grad():
            z, end, _ = expectation_maximization(x, bases, num_iterations, trace=False, **options)
            return reconstruct(z, end)
    if regime == "one_step":
        with torch.no_grad():
            before = _iterate(x, bases, num_iterations - 1, **options)
        z, end, _ = expectation_maximization(x, before, 1, trace=False, **options)
        return reconstruct(z, end)
    if regime != "implicit":
        raise ValueError(f"regime is {regime!r}; expected one of {', '.join(get_args(Regime))}")
    with torch.no_grad():
        fixed = _iterate(x, bases, num_iterations, **options)
    end = _iterate(x, fixed, 1, **options)
    if end.requires_grad:
        matrix = jacobian(x.detach(), fixed.expand_as(end), **options)
        system = torch.eye(matrix.shape[-1], dtype=x.dtype, device=x.device) - matrix

        def solve(gradient: Tensor) -> Tensor:
            v: Tensor = torch.linalg.solve(system.mT, gradient.flatten(-2))
            return v.reshape_as(gradient)

        end.register_hook(solve)  # type: ignore[no-untyped-call]
    return reconstruct(responsibilities(x, end, **options), end)


def input_gradient(
    x: Float[Tensor, "*b n c"],
    bases: Float[Tensor, "*d k c"],
    cotangent: Float[Tensor, "*b n c"],
    num_iterations: int,
    *,
    regime: Regime,
    concentration: float = 1.0,
    normalization: Normalization = "l2",
) -> Float[Tensor, "*b n c"]:
    """∂/∂X of the inner product ⟨G, X̃⟩ in a regime, with G = ∂L/∂X̃ ("detached": zero).

    Args:
        x: Features, (…, N, C).
        bases: μ^(0), (…, K, C).
        cotangent: G, (…, N, C).
        num_iterations: T.
        regime: See :func:`reestimate`.
        concentration: λ.
        normalization: Of the iteration.

    Returns:
        The gradient, (…, N, C).
    """
    x = x.detach().requires_grad_()
    estimate = reestimate(
        x,
        bases.detach(),
        num_iterations,
        regime=regime,
        concentration=concentration,
        normalization=normalization,
    )
    if not estimate.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(estimate, x, cotangent)[0]


def _iterate(
    x: Tensor, bases: Tensor, count: int, concentration: float, normalization: Normalization
) -> Tensor:
    """μ after ``count`` ≥ 0 iterations."""
    if count == 0:
        return bases
    return expectation_maximization(
        x, bases, count, concentration=concentration, normalization=normalization, trace=False
    ).bases
