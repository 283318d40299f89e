"""The steps of EM attention, Eqs 11-14 of the paper, as pure functions.

Letters and shapes are those of :mod:`emastudy.em`.
"""

import math
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emastudy.em.iteration import (
    Concentration,
    Iterations,
    Normalization,
    Projected,
    check_normalization,
    exponents,
    is_tracing,
    iterate,
    means,
    parts,
    softmax,
    sums,
)
from emastudy.errors import InputError, require

Gradient = Literal["detached", "one_step", "unrolled"]
_GRADIENTS = get_args(Gradient)


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
    y, weight, bias = parts(x)
    return softmax(exponents(y, bases, concentration, weight, bias, normalization))


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
    check_normalization(normalization)
    y, weight, bias = parts(x)
    return means(*sums(y, z, weight, normalization), weight, bias, normalization)


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
    y, weight, bias = parts(x)
    logits = exponents(y, bases, concentration, weight, bias, normalization)
    return torch.logsumexp(logits, dim=-1).sum(dim=-1)


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
    one_pass: bool = True,
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
        one_pass: Without a trace, compute the gradient of X in one product for all iterations;
            False leaves it to autograd, which makes and adds up 2T. The same up to rounding.

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

    y, weight, bias = parts(x)
    on = (concentration, weight, bias)
    learns = gradient != "detached" and torch.is_grad_enabled()
    # A compiler arranges the products of a graph itself.
    if one_pass and learns and not (trace or torch.compiler.is_compiling() or is_tracing()):
        if gradient == "one_step":
            with torch.no_grad():
                for _ in range(num_iterations - 1):
                    bases = iterate(y, bases, *on, normalization).bases
            bases, num_iterations = bases.detach(), 1
        *_, z, _, bases = Iterations.apply(y, bases, *on, num_iterations, normalization)
        return EMResult(z, bases, None)
    values = []
    for last in [False] * (num_iterations - 1) + [True]:
        start = bases.detach() if gradient == "one_step" else bases
        learns = gradient == "unrolled" or (gradient == "one_step" and last)
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            logits, z, _, bases = iterate(y, start, *on, normalization)
            if trace:
                values.append(torch.logsumexp(logits, dim=-1).sum(dim=-1))
            if trace and last:
                end = objective(x, bases, concentration=concentration, normalization=normalization)
                values.append(end)
    return EMResult(z, bases, torch.stack(values, dim=-1) if trace else None)
