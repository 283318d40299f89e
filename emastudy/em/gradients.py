r"""Gradients through EM: the Jacobian of an iteration, what it says of bases that coincide, and
four ways to differentiate X̃.

One iteration is a map M of the bases, :math:`\mu^{(t)} = M(\mu^{(t-1)}, X)`, with
Jacobian :math:`J = \partial M / \partial \mu` of K·C × K·C numbers. T unrolled iterations multiply
a gradient by T such Jacobians; at a fixed point :math:`\mu^* = M(\mu^*, X)` the implicit function
theorem replaces their infinite product by :math:`(I - J)^{-1}`.

Shapes and arguments are those of :mod:`emastudy.em`; G is the ``cotangent``. Letters beyond that
legend, here and in the chapters of the book that derive all this:

    ========  ==========================  ================================================
    s_k       Σ_n z_nk x_n                weighted sum of the pixels
    N_k       Σ_n z_nk                    mass
    m_k       s_k / N_k                   weighted mean; m: mean of all pixels
    S_k       Σ_n z_nk x_n x_nᵀ / N_k     weighted second moments; S: of all pixels
    d_k       ‖s_k‖ under "l2", N_k       so that μ_k⁺ = s_k / d_k; D holds them ("layer":
              without normalisation       Π s_k / d_k, d_k = ‖Π s_k‖ / √C)
    P_k       I - μ_k⁺ μ_k⁺ᵀ              tangent at μ_k⁺; P: at m/‖m‖
    Π         I - 1 1ᵀ/C                  centring over the channels
    H         (K·C, K·C)                  Hessian of F/λ, see :func:`jacobian`
    ========  ==========================  ================================================
"""

import math
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from emastudy.em.iteration import Normalization, normalize, product
from emastudy.em.steps import (
    Gradient,
    expectation_maximization,
    reconstruct,
    responsibilities,
    update_bases,
)
from emastudy.errors import InputError, require

Regime = Gradient | Literal["implicit"]


def jacobian(
    x: Float[Tensor, "*b n c"],
    bases: Float[Tensor, "*b k c"],
    *,
    concentration: float = 1.0,
    normalization: Normalization = "l2",
) -> Float[Tensor, "*b kc kc"]:
    r"""Jacobian of one iteration at ``bases``, bases in row-major order.

    For "l2" it is :math:`J = D^{-1} P H`, block by block

    .. math:: J_{kj} = \frac{1}{\lVert s_k \rVert}\, P_k H_{kj}, \qquad
        H_{kj} = \lambda \sum_n z_{nk} (\delta_{kj} - z_{nj})\, x_n x_n^\top .

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
    r"""λ_c, at which the state with *all* bases in one place loses its stability.

    Bases that all equal the normalised mean of the pixels are a fixed point at every λ. Near it an
    iteration multiplies the differences between bases by :func:`difference_map`, whose eigenvalues
    are real and in proportion to λ. For "l2",

    .. math:: \mu_k - \mu_j \leftarrow \frac{\lambda}{\lVert m \rVert} PSP\,(\mu_k - \mu_j),
        \qquad \lambda_c = \frac{\lVert m \rVert}{\text{largest eigenvalue of } PSP}.

    Below :math:`\lambda_c` bases that are all near that place return to it; above it almost all
    such bases part. It says nothing of bases elsewhere: close ones may part below λ_c, and distant
    ones may stay apart far below it. For those see :func:`difference_map` and
    :func:`single_basis_concentration`.

    "layer" is "l2" on features centred over the channels and multiplied by √C. For "none" and
    "gaussian" the matrix is λ times the covariance. The proof is in chapter 19 of the book; the
    Gaussian case is Rose, Gurewitz and Fox's first phase transition (Physical Review Letters 65,
    1990).

    Args:
        x: Features, (…, N, C).
        normalization: Of the iteration.

    Returns:
        λ_c, (…); infinite, up to rounding, where all pixels lie on one line through 0 ("l2",
        "layer": after centring) or are equal ("none", "gaussian"). For "l2" and "layer" it is 0 if
        their mean (after centring) is 0, and NaN if all of them are.

    Raises:
        InputError: ``normalization`` is unknown.
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
    # Of rounding errors alone the largest eigenvalue may be below 0.
    largest = torch.linalg.eigvalsh(product(apart.mT, apart))[..., -1].clamp_min(0)
    critical: Tensor = length * x.shape[-2] / largest
    return critical


def single_basis_concentration(x: Float[Tensor, "*b n c"]) -> Float[Tensor, "*b"]:
    r"""λ_g, up to which one basis explains an image as well as any number of them ("l2").

    The likelihood of the best single basis, m̂ = m/‖m‖, which is F − N log K for bases of equal
    weights, is the highest that any mixture of any weights reaches if and only if no unit vector θ
    has

    .. math:: G(\theta) = \frac1N \sum_n \exp\big(\lambda\, x_n^\top(\theta - \hat m)\big) > 1,
        \qquad \hat m = m / \lVert m \rVert,

    because the likelihood is concave in the mixing distribution. For a fixed θ, log G is convex in
    λ, 0 at λ = 0 and falling there, so the λ that satisfy this are an interval [0, λ_g]; and
    λ_g ≤ λ_c. Between the two, merged bases stay merged although enough bases, or bases of other
    weights, would explain more.

    θ is sought by power iteration, θ ← normalised gradient of G, which climbs it, from pixels
    chosen to lie far apart; λ starts above λ_c and is lowered to where the best θ found has G = 1,
    until nothing above 1 is left. A maximum that no start leads to would be missed, and the result
    be too large. Pixels whose directions differ by less than 1e-6 or so get λ_c.

    Args:
        x: Features, (…, N, C).

    Returns:
        λ_g, (…), at most :func:`critical_concentration`.

    Source: derived; the criterion is that of Lindsay, "The geometry of mixture likelihoods: a
    general theory", Annals of Statistics 1983.
    """
    dtype, x = x.dtype, x.double()
    center = normalize(x.mean(dim=-2, keepdim=True), "l2")
    along = x @ center.mT
    across = x - along * center
    critical = critical_concentration(x)
    # Exponents must stay finite where λ_c is not.
    longest = x.norm(dim=-1).amax(dim=-1).clamp_min(torch.finfo(x.dtype).tiny)
    scale = start = 2 * torch.minimum(critical, 1e12 / longest)
    theta = _far_apart(normalize(x, "l2"), center)
    cosine = theta @ center.mT
    tilt = theta - cosine * center
    for _ in range(100):
        before = scale
        for _ in range(20):
            gain = _gains(along, across, cosine, tilt)
            weights = torch.softmax(scale[..., None, None] * gain, dim=-2).mT
            cosine, tilt = weights @ along, weights @ across
            length = torch.cat([cosine, tilt], dim=-1).norm(dim=-1, keepdim=True)
            length = length.clamp_min(torch.finfo(x.dtype).tiny)
            cosine, tilt = cosine / length, tilt / length
        gain = _gains(along, across, cosine, tilt)
        best = _log_mean_exp(scale[..., None, None] * gain, -2).max(dim=-1)
        column = gain.take_along_dim(best.indices[..., None, None], dim=-1).squeeze(-1)
        rounding = 1e-12 + 1e-15 * scale * longest * tilt.norm(dim=-1).amax(dim=-1)
        for _ in range(20):  # Newton's method, from the right of a convex function's root
            exponents = scale[..., None] * column
            slope = (torch.softmax(exponents, dim=-1) * column).sum(dim=-1)
            lower = scale - _log_mean_exp(exponents, -1) / slope
            scale = torch.where(best.values > rounding, lower, scale)
        if torch.allclose(scale, before, rtol=1e-9, atol=0):
            break
    return torch.where(scale < start, torch.minimum(scale, critical), critical).to(dtype)


def difference_map(
    x: Float[Tensor, "*b n c"],
    bases: Float[Tensor, "*b k c"],
    *,
    concentration: float = 1.0,
    normalization: Normalization = "l2",
) -> Float[Tensor, "*b k c c"]:
    r"""What one iteration does to the differences between bases that coincide.

    Bases in the same place as μ_k, moved from it by small :math:`\delta_a` and
    :math:`\delta_b`, differ after an iteration by

    .. math:: \mu_a^+ - \mu_b^+ = \lambda L_k \,\mathrm{Cov}_k\, (\delta_a - \delta_b),
        \qquad \mathrm{Cov}_k = S_k - m_k m_k^\top,

    up to second order, wherever the other bases are and wherever they go. :math:`L_k` is the
    derivative of the normalisation at :math:`m_k`: :math:`P_k / \lVert m_k \rVert` for "l2" (then
    :math:`L_k \mathrm{Cov}_k = P_k S_k / \lVert m_k \rVert`), I for "none" and "gaussian". At a
    fixed point small differences within such a group shrink if λ is below its own critical
    concentration, ``concentration / spectral_radius(difference_map(...))``.

    Args:
        x: Features, (…, N, C).
        bases: μ, (…, K, C); how many of them coincide is counted in their responsibilities.
        concentration: λ.
        normalization: Of the iteration.

    Returns:
        One C×C matrix for every basis, (…, K, C, C).

    Source: derived, chapter 19 of the book.
    """
    z = responsibilities(x, bases, concentration=concentration, normalization=normalization)
    means = update_bases(x, z, normalization="none")
    mass = z.sum(dim=-2).clamp_min(torch.finfo(z.dtype).tiny)
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    maps = []
    for k in range(means.shape[-2]):  # one at a time: all offsets at once are K times X
        mean = means[..., k : k + 1, :]
        offsets = x - mean
        covariance = (z[..., k : k + 1] * offsets).mT @ offsets / mass[..., k, None, None]
        if normalization == "l2":
            length = mean.norm(dim=-1, keepdim=True)
            unit = mean / length
            covariance = (eye - unit.mT @ unit) @ covariance / length
        elif normalization == "layer":
            centred = mean - mean.mean(dim=-1, keepdim=True)
            out = normalize(mean, normalization)
            project = eye - (1 + out.mT @ out) / x.shape[-1]
            length = centred.norm(dim=-1, keepdim=True) / out.norm(dim=-1, keepdim=True)
            covariance = project @ covariance / length
        maps.append(concentration * covariance)
    return torch.stack(maps, dim=-3)


def shared_start_growth(
    images: Iterable[Float[Tensor, "n c"]],
    bases: Float[Tensor, "k c"],
    num_iterations: int = 3,
    *,
    concentration: float = 1.0,
    normalization: Normalization = "l2",
) -> Float[Tensor, " k"]:
    r"""Whether bases that coincide in the shared start μ^(0) stay together under Eq. 15.

    It is so for updates that average over all images; with mini-batches this is the expectation.
    T iterations on image X multiply the differences between them by a product D_X of
    :func:`difference_map`, one for each iteration of that image's run. The moving average then
    takes a difference δ to

    .. math:: \delta \leftarrow \big(\alpha I + (1 - \alpha)\, \mathbb E_X[D_X]\big)\, \delta .

    Returned is the spectral radius of :math:`\mathbb E_X[D_X]`: below 1 the bases merge, above it
    they part. α sets the pace and not the sign where the leading eigenvalue is real and positive
    (each factor's eigenvalues are; those of a mean over images are not bound to be). With few
    images an update, bases may merge although the number is above 1, or part although it is below,
    depending on α.

    Args:
        images: X of each image, (N, C) with N of its own.
        bases: μ^(0), (K, C). All in one place, the number is the same for all and does not depend
            on the place: the first iteration takes them to the image's mean.
        num_iterations: T.
        concentration: λ.
        normalization: Of the iteration.

    Returns:
        One number for each basis, (K). With all bases in one place it is in proportion to λ^T, so
        that λ · growth^(-1/T) is the λ at which the shared start loses its stability.

    Raises:
        InputError: No image, or what ``expectation_maximization`` refuses.

    Source: derived, chapter 20 of the book.
    """
    options: dict[str, Any] = {"concentration": concentration, "normalization": normalization}
    total, count = torch.zeros(()), 0
    for x in images:
        current = bases
        chain = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        for _ in range(num_iterations):
            chain = difference_map(x, current, **options) @ chain
            current = _iterate(x, current, 1, **options)
        total, count = total.to(chain) + chain, count + 1
    if count == 0:
        raise InputError("images is empty; the growth is a mean over at least one image")
    return spectral_radius(total / count)


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

    The norms are Euclidean. Under "l2" the gradient's component along each μ_k^(t), the derivative
    by its length, is counted at t; the step to t - 1 annihilates it. At a strict maximum what is
    left, :math:`g`, shrinks in :math:`(\sum_k \lVert g_k\rVert^2/\lVert s_k\rVert)^{1/2}` by the
    spectral radius or more, while in the Euclidean norm a factor of up to
    :math:`(\max_k\lVert s_k\rVert / \min_k\lVert s_k\rVert)^{1/2}`, and the one radial component
    at the end, may come on top.

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
    * "one_step": through the last iteration, μ^(T-1) being a constant. Of the two ways in which X̃
      depends on the bases, as factor of Zμ and through Z, it keeps the first alone.
    * "unrolled": through all T iterations, down to μ^(0).
    * "implicit": as if μ^(T) were the fixed point μ*. With X̃ = Z(X, μ*) μ*, the gradient g that
      reaches μ* goes on as v through one iteration's dependence on X, where
      :math:`(I - J)^\top v = g`. Nothing reaches μ^(0). Memory does not grow with T; time is that
      of a Jacobian, by K·C backward passes, and of a dense solve of as many equations. At a strict
      maximum of F it has one solution, which the unrolled gradient tends to; at λ_c, or wherever a
      maximum is flat, I - J is singular.

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
        InputError: Unknown regime, or what ``expectation_maximization`` refuses.

    Source: Bai, Kolter, Koltun, "Deep equilibrium models", NeurIPS 2019, for the implicit one.
    """
    known = (*get_args(Gradient), "implicit")
    require(regime in known, "regime", regime, f"one of {', '.join(known)}")
    options: dict[str, Any] = {"concentration": concentration, "normalization": normalization}
    if regime != "implicit":
        z, end, _ = expectation_maximization(
            x, bases, num_iterations, gradient=regime, trace=False, **options
        )
        return reconstruct(z, end)
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
    options: dict[str, Any] = {"concentration": concentration, "normalization": normalization}
    estimate = reestimate(x, bases.detach(), num_iterations, regime=regime, **options)
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


def _far_apart(
    directions: Float[Tensor, "*b n c"], center: Float[Tensor, "*b 1 c"]
) -> Float[Tensor, "*b k c"]:
    """At most 32 unit vectors, each the farthest from the center and all chosen before it."""
    nearest = (directions @ center.mT).squeeze(-1)
    chosen = []
    for _ in range(min(32, directions.shape[-2])):
        index = nearest.argmin(dim=-1)[..., None, None]
        chosen.append(directions.take_along_dim(index, dim=-2))
        nearest = torch.maximum(nearest, (directions @ chosen[-1].mT).squeeze(-1))
    return torch.cat(chosen, dim=-2)


def _gains(
    along: Float[Tensor, "*b n 1"],
    across: Float[Tensor, "*b n c"],
    cosine: Float[Tensor, "*b k 1"],
    tilt: Float[Tensor, "*b k c"],
) -> Float[Tensor, "*b n k"]:
    """x_nᵀ(θ - m̂) of θ = cosine · m̂ + tilt, also where θ is so near m̂ that they cancel."""
    near = tilt.square().sum(dim=-1, keepdim=True) / (1 + cosine.clamp_min(0))
    return across @ tilt.mT - along * torch.where(cosine > 0, near, 1 - cosine).mT


def _log_mean_exp(values: Tensor, dim: int) -> Tensor:
    return torch.logsumexp(values, dim=dim) - math.log(values.shape[dim])
