r"""EM attention in Triton, fused: what ``benchmarks.gpu`` times beside the package's own.

One iteration is two launches. The first reads X once: tile by tile of pixels it computes the
responsibilities Z = softmax(λ X μᵀ) and adds Zᵀ X up, so that Z never reaches the GPU's memory. The
second adds up what the programs of the first have found, in a fixed order, and normalises it. A
last launch computes Z^(T) once more and writes X̃ = Z^(T) μ^(T). The backward pass keeps X and the T
bases and computes every Z again; with G = ∂L/∂X̃ and S = Zᵀ X, of which μ = S/‖S‖, it is

.. math::
    \partial\mu^{(T)} &= Z^\top G, \qquad
    \partial S = (\partial\mu - \mu\,\mu^\top\partial\mu) / \lVert S \rVert \\
    \partial Z &= G\,\mu^{(T)\top} + X\,\partial S^\top, \qquad
    \partial A = \lambda\, Z \odot (\partial Z - \mathrm{rowsum}(Z \odot \partial Z)) \\
    \partial X &\mathrel{+}= Z\,\partial S + \partial A\,\mu^{(t-1)}, \qquad
    \partial\mu^{(t-1)} = \partial A^\top X,

where G takes part in the last iteration alone. Products of float32 features follow
``torch.set_float32_matmul_precision``; sums and the softmax are float32 in any case.

With the variable TRITON_INTERPRET=1, set before the import, the same file runs on a CPU, slowly.
"""

import os
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from emastudy.networks.emau import Gradient

#: Pixels that a program holds at once, and channels that it reads at once for products over all
#: channels. With more, float32 would spill registers or outgrow a Hopper GPU's shared memory.
TILES = {"ieee": (32, 32), "tf32": (64, 32), "bfloat16": (64, 64)}
#: Channels that a program adds up, its warps, and programs for each multiprocessor of the GPU.
CHUNK, WARPS, OCCUPANCY = 128, 8, 2
# F.normalize divides by no less.
_SMALLEST = 1e-12


def attend(
    x: Tensor,
    bases: Tensor,
    num_iterations: int,
    *,
    concentration: float = 1.0,
    gradient: Gradient = "detached",
) -> tuple[Tensor, Tensor]:
    """X̃ and μ^(T) of T l2-normalised iterations: EM and re-estimate of ``emastudy.em`` in one.

    Args:
        x: Features, (B, N, C), float32 or bfloat16.
        bases: μ^(0), (K, C) or (B, K, C).
        num_iterations: T ≥ 1.
        concentration: λ > 0.
        gradient: Where gradients go, as in ``EMAU``. "one_step" gives none to the bases.

    Returns:
        X̃ (B, N, C) in the features' type, μ^(T) (B, K, C) in float32.

    Raises:
        TypeError: Features of another type.
    """
    if x.dtype not in (torch.float32, torch.bfloat16):
        raise TypeError(f"the features are {x.dtype}; expected float32 or bfloat16")
    with torch.set_grad_enabled(torch.is_grad_enabled() and gradient != "detached"):
        estimate, end = _Attention.apply(
            x.contiguous(), bases.float().contiguous(), num_iterations, concentration, gradient
        )
    return estimate, end


class _Shape(NamedTuple):
    """What the launches of one call have in common."""

    batch: int
    pixels: int
    channels: int
    bases: int
    concentration: float
    tiles: int
    parts: int
    constants: dict[str, Any]

    @classmethod
    def of(cls, x: Tensor, bases: Tensor, concentration: float) -> "_Shape":
        """Of features and the bases that they start from."""
        batch, pixels, channels = x.shape
        count = bases.shape[-2]
        chunk = min(CHUNK, max(16, triton.next_power_of_2(channels)))
        precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
        tile, inner = TILES["bfloat16" if x.dtype == torch.bfloat16 else precision]
        if os.environ.get("TRITON_INTERPRET") == "1":
            precision = "interpreted"
        constants = {
            "TILE": tile,
            "INNER": min(inner, chunk),
            "CHUNK": chunk,
            "BASES": max(16, triton.next_power_of_2(count)),
            "PRECISION": precision,
            "num_warps": WARPS,
        }
        tiles = triton.cdiv(pixels, tile)
        places = 4
        if x.is_cuda:
            places = torch.cuda.get_device_properties(x.device).multi_processor_count
        wanted = max(1, OCCUPANCY * places // (batch * triton.cdiv(channels, chunk)))
        # As many tiles for every program, as far as that goes.
        parts = triton.cdiv(tiles, triton.cdiv(tiles, min(tiles, wanted)))
        return cls(batch, pixels, channels, count, concentration, tiles, parts, constants)

    @property
    def chunks(self) -> int:
        """Programs that share the channels."""
        return -(-self.channels // self.constants["CHUNK"])

    @property
    def numbers(self) -> tuple[int, int, int, float, int]:
        """Arguments that the kernels over pixels share."""
        per_part = -(-self.tiles // self.parts)
        return self.pixels, self.channels, self.bases, self.concentration, per_part


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, start: Tensor, iterations: int, concentration: float, gradient: str
    ) -> tuple[Tensor, Tensor]:
        shape = _Shape.of(x, start, concentration)
        bases, inverses = [start], []
        for _ in range(iterations):
            end, inverse = _normalized(_sums(x, x, bases[-1], shape), shape)
            bases.append(end)
            inverses.append(inverse)
        estimate = torch.empty_like(x)
        _reconstruct[shape.batch, shape.tiles, shape.chunks](
            x, bases[-2], _stride(bases[-2]), bases[-1], estimate, *shape.numbers[:4],
            **shape.constants,
        )  # fmt: skip
        kept = 1 if gradient == "one_step" else iterations
        ctx.save_for_backward(x, *bases[-kept - 1 :], *inverses[-kept:])
        ctx.shape, ctx.kept, ctx.start_learns = shape, kept, gradient == "unrolled"
        ctx.set_materialize_grads(False)
        return estimate, bases[-1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        g, d_bases = gradients
        if g is None and d_bases is None:
            return None, None, None, None, None
        x, *saved = ctx.saved_tensors
        bases, inverses = saved[: ctx.kept + 1], saved[ctx.kept + 1 :]
        shape, single = ctx.shape, ctx.kept == 1
        partial = None
        if g is not None:
            g = g.contiguous()
            partial = _sums(x, g, bases[-2], shape)
        # Added to once an iteration, so of half precision only where there is one.
        dx = torch.empty_like(x, dtype=x.dtype if single else torch.float32)
        for step in reversed(range(ctx.kept)):
            ds = _through_normalization(partial, d_bases, bases[step + 1], inverses[step], shape)
            goes_on = step > 0 or (ctx.start_learns and ctx.needs_input_grad[1])
            partial = _partial(x, shape) if goes_on else None
            last = step == ctx.kept - 1
            _step_backward[shape.batch, shape.parts, shape.chunks](
                x, g if last and g is not None else x, bases[step], _stride(bases[step]),
                bases[step + 1], ds, dx, x if partial is None else partial, *shape.numbers,
                G=last and g is not None, ADD=not last, PARTIAL=goes_on,
                **shape.constants, num_stages=2,
            )  # fmt: skip
            d_bases = None
        d_start = None
        if partial is not None:
            d_start = partial.sum(dim=1)
            d_start = d_start if bases[0].dim() == 3 else d_start.sum(dim=0)
        return dx.to(x.dtype), d_start, None, None, None


def _sums(x: Tensor, y: Tensor, bases: Tensor, shape: _Shape) -> Tensor:
    """Zᵀ Y with Z from X and bases, not yet added up: (B, parts, K, C)."""
    partial = _partial(x, shape)
    _weighted_sums[shape.batch, shape.parts, shape.chunks](
        x, y, bases, _stride(bases), partial, *shape.numbers, **shape.constants
    )
    return partial


def _partial(x: Tensor, shape: _Shape) -> Tensor:
    return x.new_empty(shape.batch, shape.parts, shape.bases, shape.channels, dtype=torch.float32)


def _normalized(partial: Tensor, shape: _Shape) -> tuple[Tensor, Tensor]:
    """μ (B, K, C) and 1/‖S‖ (B, K)."""
    bases = partial.new_empty(shape.batch, shape.bases, shape.channels)
    inverse = partial.new_empty(shape.batch, shape.bases)
    _normalize[shape.batch, shape.bases](
        partial, bases, inverse, shape.parts, shape.channels, _SMALLEST,
        WIDTH=triton.next_power_of_2(shape.channels),
    )  # fmt: skip
    return bases, inverse


def _through_normalization(
    partial: Tensor | None, more: Tensor | None, bases: Tensor, inverse: Tensor, shape: _Shape
) -> Tensor:
    """∂S (B, K, C) from ∂μ, which is the sum of ``partial`` and ``more``."""
    ds = torch.empty_like(bases)
    _normalize_backward[shape.batch, shape.bases](
        bases if partial is None else partial, bases if more is None else more.contiguous(),
        bases, inverse, ds, 0 if partial is None else shape.parts, shape.channels,
        MORE=more is not None, WIDTH=triton.next_power_of_2(shape.channels),
    )  # fmt: skip
    return ds


def _stride(bases: Tensor) -> int:
    """From one image's bases to the next one's: none where all share them."""
    return bases.stride(0) if bases.dim() == 3 else 0


@triton.jit
def _dot(a, b, total, PRECISION: tl.constexpr):
    """``a @ b + total``, added up in float32."""
    if PRECISION == "interpreted":  # the interpreter takes bfloat16 for integers
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def _tile(pointer, rows, columns, pixels, channels):
    """Rows and columns of a (N, C) matrix; zeros outside of it."""
    inside = (rows[:, None] < pixels) & (columns[None, :] < channels)
    return tl.load(pointer + rows[:, None] * channels + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _softmax(logits, ks, rows, bases, pixels, concentration):
    """Z of a tile, of no weight where there is no pixel."""
    logits = tl.where(ks[None, :] < bases, concentration * logits, float("-inf"))
    z = tl.exp(logits - tl.max(logits, axis=1)[:, None])
    z = z / tl.sum(z, axis=1)[:, None]
    return tl.where(rows[:, None] < pixels, z, 0.0)


@triton.jit
def _responsibilities(
    x, mu, rows, pixels, channels, bases, concentration,
    TILE: tl.constexpr, INNER: tl.constexpr, BASES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    ks = tl.arange(0, BASES)
    logits = tl.zeros((TILE, BASES), tl.float32)
    for first in range(0, channels, INNER):
        columns = first + tl.arange(0, INNER)
        x_tile = _tile(x, rows, columns, pixels, channels)
        mu_tile = _tile(mu, ks, columns, bases, channels).to(x_tile.dtype)
        logits = _dot(x_tile, tl.trans(mu_tile), logits, PRECISION)
    return _softmax(logits, ks, rows, bases, pixels, concentration)


@triton.jit
def _weighted_sums(
    x, y, mu, mu_stride, partial, pixels, channels, bases, concentration, per_part,
    TILE: tl.constexpr, INNER: tl.constexpr, CHUNK: tl.constexpr, BASES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    image, part, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    x += image * pixels * channels
    y += image * pixels * channels
    mu += image * mu_stride
    ks = tl.arange(0, BASES)
    own = chunk * CHUNK + tl.arange(0, CHUNK)
    total = tl.zeros((BASES, CHUNK), tl.float32)
    tiles = tl.cdiv(pixels, TILE)
    for tile in range(part * per_part, tl.minimum((part + 1) * per_part, tiles)):
        rows = tile * TILE + tl.arange(0, TILE)
        z = _responsibilities(
            x, mu, rows, pixels, channels, bases, concentration, TILE, INNER, BASES, PRECISION
        )
        y_tile = _tile(y, rows, own, pixels, channels)
        total = _dot(tl.trans(z.to(y_tile.dtype)), y_tile, total, PRECISION)
    partial += (image * tl.num_programs(1) + part) * bases * channels
    inside = (ks[:, None] < bases) & (own[None, :] < channels)
    tl.store(partial + ks[:, None] * channels + own[None, :], total, mask=inside)


@triton.jit
def _reconstruct(
    x, mu, mu_stride, end, out, pixels, channels, bases, concentration,
    TILE: tl.constexpr, INNER: tl.constexpr, CHUNK: tl.constexpr, BASES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    image, tile, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    x += image * pixels * channels
    out += image * pixels * channels
    mu += image * mu_stride
    end += image * bases * channels
    rows = tile * TILE + tl.arange(0, TILE)
    own = chunk * CHUNK + tl.arange(0, CHUNK)
    z = _responsibilities(
        x, mu, rows, pixels, channels, bases, concentration, TILE, INNER, BASES, PRECISION
    )
    kind = out.dtype.element_ty
    end_tile = _tile(end, tl.arange(0, BASES), own, bases, channels).to(kind)
    nothing = tl.zeros((TILE, CHUNK), tl.float32)
    estimate = _dot(z.to(kind), end_tile, nothing, PRECISION)
    inside = (rows[:, None] < pixels) & (own[None, :] < channels)
    tl.store(out + rows[:, None] * channels + own[None, :], estimate.to(kind), mask=inside)


@triton.jit
def _step_backward(
    x, g, mu, mu_stride, end, ds, dx, partial, pixels, channels, bases, concentration, per_part,
    G: tl.constexpr, ADD: tl.constexpr, PARTIAL: tl.constexpr,
    TILE: tl.constexpr, INNER: tl.constexpr, CHUNK: tl.constexpr, BASES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    image, part, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    x += image * pixels * channels
    g += image * pixels * channels
    dx += image * pixels * channels
    mu += image * mu_stride
    end += image * bases * channels
    ds += image * bases * channels
    kind = x.dtype.element_ty
    ks = tl.arange(0, BASES)
    own = chunk * CHUNK + tl.arange(0, CHUNK)
    ds_own = _tile(ds, ks, own, bases, channels).to(kind)
    mu_own = _tile(mu, ks, own, bases, channels).to(kind)
    total = tl.zeros((BASES, CHUNK), tl.float32)
    tiles = tl.cdiv(pixels, TILE)
    for tile in range(part * per_part, tl.minimum((part + 1) * per_part, tiles)):
        rows = tile * TILE + tl.arange(0, TILE)
        logits = tl.zeros((TILE, BASES), tl.float32)
        dz = tl.zeros((TILE, BASES), tl.float32)
        for first in range(0, channels, INNER):
            columns = first + tl.arange(0, INNER)
            x_tile = _tile(x, rows, columns, pixels, channels)
            mu_tile = tl.trans(_tile(mu, ks, columns, bases, channels).to(kind))
            ds_tile = tl.trans(_tile(ds, ks, columns, bases, channels).to(kind))
            logits = _dot(x_tile, mu_tile, logits, PRECISION)
            dz = _dot(x_tile, ds_tile, dz, PRECISION)
            if G:
                g_tile = _tile(g, rows, columns, pixels, channels)
                end_tile = tl.trans(_tile(end, ks, columns, bases, channels).to(kind))
                dz = _dot(g_tile, end_tile, dz, PRECISION)
        z = _softmax(logits, ks, rows, bases, pixels, concentration)
        da = concentration * z * (dz - tl.sum(z * dz, axis=1)[:, None])
        dx_tile = tl.zeros((TILE, CHUNK), tl.float32)
        dx_tile = _dot(z.to(kind), ds_own, dx_tile, PRECISION)
        dx_tile = _dot(da.to(kind), mu_own, dx_tile, PRECISION)
        if ADD:
            dx_tile += _tile(dx, rows, own, pixels, channels)
        inside = (rows[:, None] < pixels) & (own[None, :] < channels)
        places = dx + rows[:, None] * channels + own[None, :]
        tl.store(places, dx_tile.to(dx.dtype.element_ty), mask=inside)
        if PARTIAL:
            x_own = _tile(x, rows, own, pixels, channels)
            total = _dot(tl.trans(da.to(kind)), x_own, total, PRECISION)
    if PARTIAL:
        partial += (image * tl.num_programs(1) + part) * bases * channels
        inside = (ks[:, None] < bases) & (own[None, :] < channels)
        tl.store(partial + ks[:, None] * channels + own[None, :], total, mask=inside)


@triton.jit
def _added_up(partial, image, k, parts, channels, columns):
    """Σ over parts of one basis, (WIDTH)."""
    stride = tl.num_programs(1) * channels
    place = partial + image * parts * stride + k * channels + columns
    total = tl.zeros(columns.shape, tl.float32)
    for part in range(parts):
        total += tl.load(place + part * stride, mask=columns < channels, other=0.0)
    return total


@triton.jit
def _normalize(partial, mu, inverse, parts, channels, smallest, WIDTH: tl.constexpr):
    image, k = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.arange(0, WIDTH)
    total = _added_up(partial, image, k, parts, channels, columns)
    scale = 1.0 / tl.maximum(tl.sqrt(tl.sum(total * total, axis=0)), smallest)
    row = image * tl.num_programs(1) + k
    tl.store(mu + row * channels + columns, total * scale, mask=columns < channels)
    tl.store(inverse + row, scale)


@triton.jit
def _normalize_backward(
    partial, more, mu, inverse, ds, parts, channels, MORE: tl.constexpr, WIDTH: tl.constexpr
):
    image, k = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.arange(0, WIDTH)
    inside = columns < channels
    row = image * tl.num_programs(1) + k
    d_mu = _added_up(partial, image, k, parts, channels, columns)
    if MORE:
        d_mu += tl.load(more + row * channels + columns, mask=inside, other=0.0)
    end = tl.load(mu + row * channels + columns, mask=inside, other=0.0)
    across = d_mu - end * tl.sum(end * d_mu, axis=0)
    tl.store(ds + row * channels + columns, across * tl.load(inverse + row), mask=inside)
