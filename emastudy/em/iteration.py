r"""One iteration of EM on features in whatever form they are given, and the gradient of several.

Letters and shapes are those of :mod:`emastudy.em`. Features are Y, (…, N, D), with an affine map
:math:`x_n = W y_n + b` or without one, when X is Y itself. An iteration has three parts:

.. math::
    \text{exponents}\quad & L = Y A^\top + o \quad\text{with}\quad
        A = \lambda \mu W, \; o = \lambda \mu b, \\
    \text{E step}\quad & Z = \mathrm{softmax}(L), \\
    \text{M step}\quad & S = Z^\top Y, \quad
        \mu^+ = \mathrm{norm}\big((S W^\top + N b^\top) / N\big), \quad N_k = \sum_n z_{nk}.

Only L and S cost N·K·D multiply-adds; what leads from bases to A and o (:func:`directions`) and
from S to bases (:func:`means`) does not grow with the image.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emastudy.errors import require

Normalization = Literal["l2", "layer", "none", "gaussian"]
_NORMALIZATIONS = get_args(Normalization)
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
    check_normalization(normalization)
    bases = wide(bases)
    if normalization == "l2":
        return F.normalize(bases, dim=-1)
    if normalization == "layer":
        return F.layer_norm(bases, bases.shape[-1:])
    return bases


def check_normalization(normalization: str) -> None:
    """Raise InputError if there is none of that name."""
    expected = f"one of {', '.join(_NORMALIZATIONS)}"
    require(normalization in _NORMALIZATIONS, "normalization", normalization, expected)


def parts(x: Tensor | Projected) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Y, W and b; Y without float16."""
    y, weight, bias = x if isinstance(x, Projected) else (x, None, None)
    return (y.float() if y.dtype == torch.float16 else y), weight, bias


def directions(
    bases: Tensor,
    concentration: Concentration,
    weight: Tensor | None,
    bias: Tensor | None,
    normalization: str,
) -> tuple[Tensor, Tensor | None]:
    """A (…, K, D) and o (…, K), which is None where it is 0."""
    if isinstance(concentration, Tensor):
        concentration = wide(concentration)[..., None, None]
    # λ scales the K bases rather than the N·K products: fewer multiplications, same numbers
    # up to rounding.
    scaled = concentration * wide(bases)
    found, offsets = scaled, None
    if weight is not None and bias is not None:
        found, bias = product(scaled, weight.to(scaled.dtype)), bias.to(scaled.dtype)
        one_head = bias.ndim == 1
        offsets = product(scaled, bias) if one_head else (scaled * bias.unsqueeze(-2)).sum(dim=-1)
    if normalization == "gaussian":
        squares = wide(bases).square().sum(dim=-1, keepdim=True)
        lengths = (0.5 * concentration * squares).squeeze(-1)
        offsets = -lengths if offsets is None else offsets - lengths
    return found, offsets


def exponents(
    y: Tensor,
    bases: Tensor,
    concentration: Concentration,
    weight: Tensor | None,
    bias: Tensor | None,
    normalization: str,
) -> Tensor:
    """L (…, N, K)."""
    check_normalization(normalization)
    along, offsets = directions(bases, concentration, weight, bias, normalization)
    logits = product(y, along.to(y.dtype).transpose(-2, -1), _multiply(weight))
    return logits if offsets is None else logits + offsets.unsqueeze(-2)


def softmax(logits: Tensor) -> Tensor:
    """Over the bases."""
    # Along a last dimension of few bases torch's softmax is many times slower than along another.
    # One head keeps its numbers, to the last bit.
    if logits.ndim <= 3 or is_tracing() or logits.shape[-1] >= 16:
        return torch.softmax(logits, dim=-1)
    return torch.softmax(logits.mT.contiguous(), dim=-2).mT


def sums(
    y: Tensor, z: Tensor, weight: Tensor | None, normalization: str
) -> tuple[Tensor, Tensor | None]:
    """S (…, K, D) and N (…, K), which is None where nothing depends on it."""
    total = product(z.transpose(-2, -1).to(y.dtype), y, _multiply(weight))
    return total, _mass(z, weight, normalization)


def _mass(z: Tensor, weight: Tensor | None, normalization: str) -> Tensor | None:
    return None if weight is None and normalization == "l2" else wide(z).sum(dim=-2)


def means(
    total: Tensor,
    mass: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    normalization: str,
) -> Tensor:
    """μ⁺ (…, K, C)."""
    if mass is not None:
        mass = mass.unsqueeze(-1)
        if weight is not None and bias is not None:
            moved = product(total, weight.to(total.dtype).transpose(-2, -1))
            total = moved + mass * bias.unsqueeze(-2)
        if normalization != "l2":
            total = total / mass.clamp_min(torch.finfo(mass.dtype).tiny)
    return normalize(total, normalization)  # type: ignore[arg-type]


class Iteration(NamedTuple):
    """What an iteration leaves behind: L, Z, S and μ⁺."""

    exponents: Tensor
    responsibilities: Tensor
    sums: Tensor
    bases: Tensor


def iterate(
    y: Tensor,
    bases: Tensor,
    concentration: Concentration,
    weight: Tensor | None,
    bias: Tensor | None,
    normalization: str,
) -> Iteration:
    """One iteration from ``bases``."""
    logits = exponents(y, bases, concentration, weight, bias, normalization)
    z = softmax(logits)
    total, mass = sums(y, z, weight, normalization)
    return Iteration(logits, z, total, means(total, mass, weight, bias, normalization))


class Iterations(torch.autograd.Function):
    r"""T iterations, whose gradient in Y is one product of matrices.

    With :math:`\bar G` for the gradient in G,

    .. math::
        \bar Y = \sum_t \big(\bar L_t A_t + Z_t \bar S_t\big)
        = [\bar L_1\, Z_1 \cdots \bar L_T\, Z_T]\,
          [A_1; \bar S_1; \cdots; A_T; \bar S_T] .

    Autograd makes each of the 2T terms by itself, as large as Y, and adds them up.

    Returns Z, S and μ⁺ of every iteration. All can be differentiated, so that the gradient can be,
    too: what backward reads is arguments and results.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        y: Tensor,
        bases: Tensor,
        concentration: Concentration,
        weight: Tensor | None,
        bias: Tensor | None,
        num_iterations: int,
        normalization: str,
    ) -> tuple[Tensor, ...]:
        """(Z, S, μ⁺), T times, in one tuple."""
        made: list[Tensor] = []
        for _ in range(num_iterations):
            _, *kept = iterate(y, bases, concentration, weight, bias, normalization)
            made, bases = made + kept, kept[-1]
        return tuple(made)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep them all, and how products are rounded."""
        *arguments, _, ctx.normalization = inputs
        ctx.concentration = None if isinstance(arguments[2], Tensor) else arguments[2]
        tensors = [value if isinstance(value, Tensor) else None for value in arguments]
        ctx.save_for_backward(*tensors, *output)
        ctx.set_materialize_grads(False)
        device = arguments[0].device.type
        ctx.autocast = None  # as on the meta device
        if torch.amp.is_autocast_available(device):
            dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
            ctx.autocast = {"device_type": device, "dtype": dtype, "enabled": enabled}

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Of Y, μ^(0), λ, W and b."""
        with torch.autocast(**ctx.autocast) if ctx.autocast else nullcontext():
            return (*_pulled_through(ctx, gradients), None, None)


def _pulled_through(ctx: Any, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    y, start, scale, weight, bias, *made = ctx.saved_tensors
    scale = scale if ctx.concentration is None else ctx.concentration
    normalization, multiply = ctx.normalization, _multiply(weight)
    to_y, to_bases = None, None
    to_others: list[Tensor | None] = [None, None, None]  # λ, W, b
    left: list[Tensor] = []
    right: list[Tensor] = []
    for t in reversed(range(0, len(made), 3)):
        z, total, _ = made[t : t + 3]
        to_z, to_total, to_mean = gradients[t : t + 3]
        # The M step: μ⁺ of S and N, S and N of Z.
        to_mean, to_bases = _added(to_mean, to_bases), None
        if to_mean is not None:
            mass = _mass(z, weight, normalization)
            _, pull = _vjp(means, total, mass, weight, bias, normalization)
            through, to_mass, *more, _ = pull(to_mean)
            to_total = _added(to_total, through)
            to_others[1:] = map(_added, to_others[1:], more)
            if to_mass is not None:
                to_z = _added(to_z, to_mass.unsqueeze(-2))
        if to_total is not None:
            along = product(y, to_total.to(y.dtype).transpose(-2, -1), multiply)
            to_z = _added(along, to_z)
            left.append(z)
            right.append(to_total)
        if to_z is None:
            continue
        # The E step: Z of L, L of A and o, these of the bases before.
        weighted = z * to_z
        to_logits = torch.addcmul(weighted, z, weighted.sum(dim=-1, keepdim=True), value=-1)
        before = made[t - 1] if t else start
        found, pull = _vjp(directions, before, scale, weight, bias, normalization)
        to_found = [product(to_logits.to(y.dtype).transpose(-2, -1), y, multiply)]
        to_found += [to_logits.sum(dim=-2)] * (len(found) - 1)
        to_bases, *more, _ = pull(
            *(gradient.sum_to_size(of.shape) for gradient, of in zip(to_found, found, strict=True))
        )
        to_others = list(map(_added, to_others, more))
        left.append(to_logits)
        right.append(found[0].expand(*to_logits.shape[:-2], *found[0].shape[-2:]))
    if left and ctx.needs_input_grad[0]:
        columns, rows = torch.cat(left, dim=-1).to(y.dtype), torch.cat(right, dim=-2).to(y.dtype)
        if weight is not None and weight.ndim == 3:  # heads of one Y: theirs add up
            columns = columns.transpose(-3, -2).flatten(-2).unsqueeze(-3)
            rows = rows.flatten(-3, -2).unsqueeze(-3)
        to_y = product(columns, rows).sum_to_size(y.shape).to(y.dtype)
    return [to_y, to_bases, *to_others]


def _vjp(
    function: Callable[..., Any], *arguments: Any
) -> tuple[tuple[Tensor, ...], Callable[..., list[Tensor | None]]]:
    """The results that are tensors, and what takes their gradients to those of all arguments."""
    tensors = {n: value for n, value in enumerate(arguments) if isinstance(value, Tensor)}

    def of_tensors(*values: Tensor) -> tuple[Tensor, ...]:
        given = {**dict(enumerate(arguments)), **dict(zip(tensors, values, strict=True))}
        results = function(*given.values())
        results = results if isinstance(results, tuple) else (results,)
        return tuple(result for result in results if result is not None)

    results, pull = torch.func.vjp(of_tensors, *tensors.values())  # type: ignore[misc]

    def pulled(*gradients: Tensor) -> list[Tensor | None]:
        found = dict(zip(tensors, pull(gradients), strict=True))
        return [found.get(n) for n in range(len(arguments))]

    return results, pulled


def _added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _multiply(weight: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """``a @ b``; of heads with one Y without its copies, one for each head."""
    if weight is None or weight.ndim == 2:
        return torch.matmul
    return lambda a, b: torch.einsum("...ij,...jk->...ik", a, b)


def is_tracing() -> bool:
    """Whether ``torch.jit.trace`` is at work."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


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


def wide(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 to float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
