"""The steps of EM attention, Eqs 11-14 of the paper, as pure functions.

Letters and shapes are those of :mod:`emastudy.em`.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from emastudy.errors import InputError, require

Normalization = Literal["l2", "layer", "none", "gaussian"]
_NORMALIZATIONS = get_args(Normalization)
Gradient = Literal["detached", "one_step", "unrolled"]
_GRADIENTS = get_args(Gradient)
Concentration = float | Float[Tensor, "*l"]


class Projected(NamedTuple):
    r"""Features given as an affine map of others, :math:`x_n = W y_n + b`, and never computed.

    EM asks features for two things only: inner products with K bases, which are
    :math:`x_n^\top\mu_k = y_n^\top (W^\top\mu_k) + b^\top\mu_k`, and weighted sums, which are
    :math:`\sum_n z_{nk} x_n = W \sum_n z_{nk} y_n + b \sum_n z_{nk}`. So W can be applied to K
    bases, twice an iteration, instead of to N pixels once: 2TKCD multiply-adds instead of NCD.

    The functions below take one wherever they take X. Heads see the same Y, each through rows of W
    of its own: they are a batch dimension of W and b, and one of size 1 in Y, which is not copied.

    Source: derived; not in the paper.
    """

    features: Float[Tensor, "*b n d"]  #: Y, (…, N, D), or (…, 1, N, D) for H heads.
    weight: Float[Tensor, "*h c d"]  #: W, (C, D) or (H, C, D).
    bias: Float[Tensor, "*h c"]  #: b, (C) or (H, C).


class EMResult(NamedTuple):
    """What T iterations of EM leave behind."""

    #: Z^(T), (…, N, K), computed from μ^(T-1) as in the paper and its code.
    responsibilities: Float[Tensor, "*b n k"]
    bases: Float[Tensor, "*b k c"]  #: μ^(T), (…, K, C).
    #: F(μ^(0)), …, F(μ^(T)), (…, T+1), see :func:`objective`; None if not traced.
    objective: Float[Tensor, "*b t"] | None


def responsibilities(
    x: Float[Tensor, "*b n c"] | Projected,
    bases: Float[Tensor, "*d k c"],
    *,
    concentration: Concentration = 1.0,
    normalization: Normalization = "l2",
) -> Float[Tensor, "*e n k"]:
    r"""E step: how far each basis explains each pixel.

    .. math:: z_{nk} = \frac{\exp(\lambda x_n^\top \mu_k)}{\sum_j \exp(\lambda x_n^\top \mu_j)}

    The iteration ``"gaussian"`` puts :math:`\lambda(x_n^\top\mu_k - \tfrac12\lVert\mu_k\rVert^2)`
    into the exponent: then z is the posterior of a Gaussian mixture with Σ_k = I/λ.

    The softmax runs in float32 when the features are half precision: its rows must sum to one.
    Features in float16, or under autocast to it, are computed with in float32 altogether, because
    sums over pixels soon pass float16's largest number, 65,504.

    Args:
        x: Features, (…, N, C).
        bases: Bases, (…, K, C).
        concentration: λ > 0; λ → ∞ assigns each pixel to its best basis (K-means), but for ties,
            which share it.
        normalization: The iteration that the step belongs to; only "gaussian" changes the exponent.

    Returns:
        z, (…, N, K), float32 or wider.

    Source: Eqs 11 and 12.
    """
    return _softmax(_logits(x, bases, concentration, normalization))


def update_bases(
    x: Float[Tensor, "*b n c"] | Projected,
    z: Float[Tensor, "*b n k"],
    *,
    normalization: Normalization = "l2",
) -> Float[Tensor, "*b k c"]:
    r"""M step: each basis becomes the mean of the pixels, weighted by its responsibilities.

    .. math:: \mu_k = \mathrm{norm}\Big(\frac{\sum_n z_{nk} x_n}{\sum_m z_{mk}}\Big)

    Under ``"l2"`` the division by :math:`\sum_m z_{mk}` cancels and is left out. A basis that no
    pixel chooses (all its z underflow to 0) becomes the zero vector rather than NaN, and one whose
    weighted sum is shorter than 1e-12 stays shorter than one.

    Args:
        x: Features, (…, N, C).
        z: Responsibilities, (…, N, K).
        normalization: What is done to each μ_k afterwards, see :func:`normalize`.

    Returns:
        bases, (…, K, C), float32 or wider.

    Raises:
        InputError: ``normalization`` is unknown.

    Source: Eq. 13 (whose print lacks the numerator's sum) and Section 5.3.
    """
    totals = _weighted_sums(x, z)
    if normalization != "l2":
        mass = wide(z).sum(dim=-2).unsqueeze(-1)
        totals = totals / mass.clamp_min(torch.finfo(mass.dtype).tiny)
    return normalize(totals, normalization)


def normalize(
    bases: Float[Tensor, "*b k c"], normalization: Normalization
) -> Float[Tensor, "*b k c"]:
    r"""Bases normalisation: :math:`\mu_k / \lVert\mu_k\rVert_2`, LayerNorm over C, or nothing.

    LayerNorm is used without learnt gain and bias. A zero vector stays zero. "none" and
    "gaussian" leave the mean as it is; they differ in the E step.

    Returns:
        bases, (…, K, C), float32 or wider.

    Raises:
        InputError: ``normalization`` is none of "l2", "layer", "none", "gaussian".

    Source: Section 5.3.
    """
    _check_normalization(normalization)
    bases = wide(bases)
    if normalization == "l2":
        return F.normalize(bases, dim=-1)
    if normalization == "layer":
        return F.layer_norm(bases, bases.shape[-1:])
    return bases


def _check_normalization(normalization: str) -> None:
    expected = f"one of {', '.join(_NORMALIZATIONS)}"
    require(normalization in _NORMALIZATIONS, "normalization", normalization, expected)


def reconstruct(
    z: Float[Tensor, "*b n k"], bases: Float[Tensor, "*d k c"]
) -> Float[Tensor, "*e n c"]:
    r"""Data re-estimation: :math:`\tilde x_n = \sum_k z_{nk} \mu_k`, of rank at most K.

    Returns:
        X̃, (…, N, C).

    Source: Eq. 14.
    """
    return z.to(bases.dtype) @ bases


def objective(
    x: Float[Tensor, "*b n c"] | Projected,
    bases: Float[Tensor, "*d k c"],
    *,
    concentration: Concentration = 1.0,
    normalization: Normalization = "l2",
) -> Float[Tensor, "*e"]:
    r"""What the l2-normalised iteration climbs (in nats, summed over the pixels of an image).

    .. math:: F(\mu) = \sum_n \log \sum_k \exp(\lambda x_n^\top \mu_k)

    Up to terms without μ it is, for unit bases, the log-likelihood of K equally likely Gaussians
    N(μ_k, I/λ), and, given the lengths, of von Mises-Fisher directions with concentration λ‖x_n‖ at
    pixel n. So with ``normalization="l2"`` it never falls from bases with ‖μ_k‖ ≤ 1. "layer" is the
    same on centred features with λ√C in the place of λ: it never falls from averages of
    LayerNorm's outputs, where the means' variance over the channels is far above that norm's 1e-5,
    and may from other bases at the first step. "none" carries no promise. With "gaussian", whose
    exponent is :math:`\lambda(x_n^\top\mu_k - \tfrac12\lVert\mu_k\rVert^2)`, it is the
    log-likelihood of a Gaussian mixture with Σ_k = I/λ, again up to terms without μ.

    Args:
        x: Features, (…, N, C).
        bases: Bases, (…, K, C).
        concentration: λ > 0.
        normalization: The iteration that is judged; only "gaussian" changes the exponent.

    Returns:
        F, one number per image, (…).

    Source: derived; not in the paper.
    """
    return torch.logsumexp(_logits(x, bases, concentration, normalization), dim=-1).sum(dim=-1)


def falls(objective: Float[Tensor, "*b t"]) -> Bool[Tensor, "*b t-1"]:
    """Where a course of F, in double precision, falls by more than rounding: 1e-9 of its size.

    Args:
        objective: F(μ^(0)), …, F(μ^(T)), as :func:`expectation_maximization` traces it.
    """
    return objective.diff(dim=-1) < -1e-9 * objective[..., 1:].abs()


def expectation_maximization(
    x: Float[Tensor, "*b n c"] | Projected,
    bases: Float[Tensor, "*d k c"],
    num_iterations: int = 3,
    *,
    concentration: Concentration = 1.0,
    normalization: Normalization = "l2",
    gradient: Gradient = "unrolled",
    trace: bool = True,
) -> EMResult:
    """Run T iterations of E step and M step from μ^(0).

    ``reconstruct(result.responsibilities, result.bases)`` is then the paper's X̃.

    Args:
        x: Features, (…, N, C).
        bases: μ^(0), (…, K, C); used as they are, not normalised first.
        num_iterations: T ≥ 1.
        concentration: λ > 0, a number or a tensor (…).
        normalization: See :func:`normalize`; "gaussian" also changes the E step.
        gradient: Where gradients go. "detached": nowhere, the result is a constant. "one_step":
            through the last iteration, μ^(T-1) being a constant. "unrolled": through all T.
        trace: Record the objective at every iteration, at the price of one more E step at the end.

    Returns:
        Z^(T), μ^(T) and the trace of the objective.

    Raises:
        InputError: T < 1, λ ≤ 0 or not finite, unknown normalisation or
            gradient, or shapes that do not fit.

    Source: Section 4.
    """
    if num_iterations < 1:
        raise InputError(f"num_iterations is {num_iterations}; EM needs at least 1 iteration")
    require(gradient in _GRADIENTS, "gradient", gradient, f"one of {', '.join(_GRADIENTS)}")
    # A tensor is not checked: that would read it back from the device.
    known = isinstance(concentration, Tensor) or 0 < concentration < math.inf
    require(known, "concentration", concentration, "a finite number > 0")
    channels = x.weight.shape[-2] if isinstance(x, Projected) else x.shape[-1]
    # torch.jit.trace makes tensors of sizes, and warns of every question that is asked of them.
    if not is_tracing() and channels != bases.shape[-1]:
        raise InputError(
            f"x has {channels} channels and bases have {bases.shape[-1]}; "
            "both end in the feature dimension C: x (…, N, C), bases (…, K, C)"
        )

    x = _without_float16(x)  # once, not in every step
    values = []
    for last in [False] * (num_iterations - 1) + [True]:
        start = bases.detach() if gradient == "one_step" else bases
        learns = gradient == "unrolled" or (gradient == "one_step" and last)
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            logits = _logits(x, start, concentration, normalization)
            if trace:
                values.append(torch.logsumexp(logits, dim=-1).sum(dim=-1))
            z = _softmax(logits)
            bases = update_bases(x, z, normalization=normalization)
            if trace and last:
                end = objective(x, bases, concentration=concentration, normalization=normalization)
                values.append(end)
    return EMResult(z, bases, torch.stack(values, dim=-1) if trace else None)


def _logits(
    x: Tensor | Projected, bases: Tensor, concentration: Concentration, normalization: str
) -> Tensor:
    """The exponents of the E step."""
    _check_normalization(normalization)
    x = _without_float16(x)
    if isinstance(concentration, Tensor):
        concentration = wide(concentration)[..., None, None]
    # λ scales the K bases rather than the N·K products: fewer multiplications, same numbers
    # up to rounding.
    scaled = concentration * wide(bases)
    if isinstance(x, Projected):
        directions = product(scaled, x.weight.to(scaled.dtype))
        directions = directions.to(x.features.dtype).transpose(-2, -1)
        bias = x.bias.to(scaled.dtype)
        if bias.ndim == 1:
            logits, offsets = product(x.features, directions), product(scaled, bias)
        else:
            logits = product(x.features, directions, _without_copies)
            offsets = (scaled * bias.unsqueeze(-2)).sum(dim=-1)
        logits = logits + offsets.unsqueeze(-2)
    else:
        logits = product(x, scaled.to(x.dtype).transpose(-2, -1))
    if normalization == "gaussian":
        logits = logits - 0.5 * concentration * wide(bases).square().sum(dim=-1).unsqueeze(-2)
    return logits


def _softmax(logits: Tensor) -> Tensor:
    """Over the bases."""
    # Along a last dimension of few bases torch's softmax is many times slower than along another.
    # One head keeps its numbers, to the last bit.
    if logits.ndim <= 3 or is_tracing() or logits.shape[-1] >= 16:
        return torch.softmax(logits, dim=-1)
    return torch.softmax(logits.mT.contiguous(), dim=-2).mT


def _weighted_sums(x: Tensor | Projected, z: Tensor) -> Tensor:
    """Σ_n z_nk x_n, (…, K, C)."""
    x = _without_float16(x)
    if isinstance(x, Projected):
        y = x.features
        multiply = torch.matmul if x.bias.ndim == 1 else _without_copies
        sums = product(z.transpose(-2, -1).to(y.dtype), y, multiply)
        mass = wide(z).sum(dim=-2).unsqueeze(-1)
        weight = x.weight.to(sums.dtype).transpose(-2, -1)
        return product(sums, weight) + mass * x.bias.unsqueeze(-2)
    return product(z.transpose(-2, -1).to(x.dtype), x)


def is_tracing() -> bool:
    """Whether ``torch.jit.trace`` is at work."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _without_copies(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``, which would copy a factor of one head for each head of the other."""
    return torch.einsum("...ij,...jk->...ik", a, b)


def product(
    a: Tensor, b: Tensor, multiply: Callable[[Tensor, Tensor], Tensor] = torch.matmul
) -> Tensor:
    """``a @ b``, float32 or wider; computed in bfloat16 under autocast, but never in float16."""
    device = a.device.type
    if (
        torch.amp.is_autocast_available(device)
        and torch.is_autocast_enabled(device)
        and torch.get_autocast_dtype(device) == torch.float16
    ):
        with torch.autocast(device, enabled=False):
            return multiply(wide(a), wide(b))
    return wide(multiply(a, b))


def _without_float16(x: Tensor | Projected) -> Tensor | Projected:
    features = x.features if isinstance(x, Projected) else x
    if features.dtype != torch.float16:
        return x
    return x._replace(features=x.features.float()) if isinstance(x, Projected) else x.float()


def wide(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 to float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
