"""EMA with heads that see windows of the map: what the search for a better unit found."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emastudy import options
from emastudy.em import EMResult, Gradient, reconstruct
from emastudy.em.iteration import is_tracing
from emastudy.errors import InputError, require
from emastudy.networks.emau import EMAU, divisors
from emastudy.networks.graphs import is_for_several_sizes
from emastudy.options import PositiveFloat, PositiveInt, Probability


class WindowedEMAU(EMAU):
    r"""EMA whose heads see the map, or windows of it: (B, C, H, W) in, the same shape out.

    The heads of an :class:`EMAU` are shared out evenly among grids. A head whose grid is p cuts the
    map into p×p windows and runs an EM in each, all from the head's one μ^(0):

    .. math::
        X_h = [X_{h1}, \dots, X_{hp^2}], \quad
        Z_{hw}, \mu_{hw} = \text{T iterations of EM on } X_{hw} \text{ from } \mu_h^{(0)}, \quad
        \tilde X_{hw} = Z_{hw}\mu_{hw} .

    With windows (1, 2) half of the heads tell a pixel what there is in the image, and half what
    there is in its quarter of it. Objectives add over heads and windows, the bases of a window,
    all in one place, have the critical concentration of its X, and μ^(0) follows the mean of the
    bases over images and windows.

    *Cost.* A window needs its share of the multiply-adds, so that all together need EM's 2TNKC. But
    conv1 is never folded (see :class:`EMAU`), Z is H times as large as one head's, and so is what
    the softmax takes, and what the backward pass keeps.

    *Where windows end.* Those of a map that p does not divide differ by a row or column, the last
    being the larger, so that a mirrored map does not give the mirrored output. (Inside, zeros make
    them equal: with normalisation to length one a pixel of zeros moves no basis. They add to the
    multiply-adds.)

    Args:
        channels: C, channels of the feature map.
        num_bases: Number of bases, K, in each head.
        num_iterations: Iterations, T. Of all options this alone may be changed later.
        heads: H; it divides ``channels``.
        windows: p of each grid, how many windows a side; their number divides ``heads``. (1,) makes
            an :class:`EMAU` with these options.
        concentration: As :class:`EMAU`'s.
        concentration_scale: "learned", a factor on λ for each head, or "fixed", which
            ``gradient="detached"`` wants.
        momentum: As :class:`EMAU`'s.
        gradient: As :class:`EMAU`'s, but "unrolled" by default.
        zero_init: As :class:`EMAU`'s.
        process_group: As :class:`EMAU`'s.

    Raises:
        InputError: An argument out of its range; a map with fewer rows or columns than windows;
            ``torch.jit.trace``, or an export for maps of several sizes. (``torch.compile`` takes
            it, ``torch.export`` and ONNX for maps of one size.)

    Source: none; it belongs to this study (page 38).
    """

    @options.checked
    def __init__(
        self,
        channels: PositiveInt,
        num_bases: PositiveInt = 64,
        num_iterations: PositiveInt = 3,
        *,
        heads: PositiveInt = 8,
        windows: Sequence[PositiveInt] = (1, 2),
        concentration: PositiveFloat = 1.0,
        # "critical" is of a whole image's features.
        concentration_scale: Literal["learned", "fixed"] = "learned",
        momentum: Probability = 0.9,
        gradient: Gradient = "unrolled",
        zero_init: bool = False,
        process_group: "torch.distributed.ProcessGroup | None" = None,
    ) -> None:
        grids = len(windows)
        require(grids > 0, "windows", windows, "at least one grid, such as [1, 2]")
        shared = f"a multiple of {grids}, the number of grids in windows"
        require(channels % grids == 0, "channels", channels, shared)
        fitting = [d for d in divisors(channels) if d % grids == 0]
        offered = ", ".join(map(str, fitting))
        expected = f"{shared}, that divides channels, {channels}: one of {offered}"
        require(heads in fitting, "heads", heads, expected)
        super().__init__(
            channels,
            num_bases,
            num_iterations,
            heads=heads,
            concentration=concentration,
            concentration_scale=concentration_scale,
            momentum=momentum,
            gradient=gradient,
            zero_init=zero_init,
            process_group=process_group,
        )
        self.windows = tuple(windows)

    @classmethod
    def recommended(cls, channels: int, num_bases: int = 64, **options: Any) -> "WindowedEMAU":
        """The unit as the study ran it, which is its defaults; options replace them."""
        return cls(channels, num_bases, **options)

    def attend(self, features: Float[Tensor, "b c h w"], *, trace: bool = False) -> EMResult:
        """As :meth:`EMAU.attend`, with the mean of bases and the sum of F over windows.

        So ``reconstruct`` makes no X̃ of what this returns: every window has bases of its own.
        """
        parts = self._by_grid(features, trace=trace)
        sizes = features.shape[-2:]
        z = torch.cat([_join(part.responsibilities, p, *sizes) for p, part in parts], dim=1)
        bases = torch.cat([part.bases.mean(dim=1) for _, part in parts], dim=1)
        # Each zero that makes windows equal has added log K.
        traces = [
            part.objective.sum(dim=1)
            - (_slots(p, *sizes) - sizes.numel()) * math.log(self.num_bases)
            for p, part in parts
            if part.objective is not None
        ]
        objective = torch.cat(traces, dim=1) if traces else None
        if self.heads > 1:
            return EMResult(z, bases, objective)
        return EMResult(z[:, 0], bases[:, 0], None if objective is None else objective[:, 0])

    def em_input(
        self, features: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b *heads n d"], Float[Tensor, "*any k d"]]:
        """Refused: every window has an input of its own."""
        raise InputError(
            "WindowedEMAU runs EM in windows, so that there is no one X that it works on; take an "
            "EMAU, or look at unit.attend"
        )

    def _attended(
        self, features: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b *heads k d"]]:
        parts = self._by_grid(features, trace=False)
        sizes = features.shape[-2:]
        estimates = [
            _join(reconstruct(part.responsibilities, part.bases), p, *sizes) for p, part in parts
        ]
        bases = torch.cat([part.bases.mean(dim=1) for _, part in parts], dim=1)
        estimate = torch.cat(estimates, dim=1).transpose(1, 2).flatten(2)
        return estimate, bases if self.heads > 1 else bases[:, 0]

    def _by_grid(self, features: Tensor, *, trace: bool) -> list[tuple[int, EMResult]]:
        """Each grid's windows a side, and the EM of its heads: (B, p², H/grids, …)."""
        self._check(features)
        if is_tracing():
            raise InputError(
                "WindowedEMAU cuts its windows by the size of the map, which a traced unit cannot "
                "tell of later maps; use torch.export, for maps of one size, or EMAU"
            )
        height, width = features.shape[-2:]
        if is_for_several_sizes(features):
            raise InputError(
                "WindowedEMAU cuts its windows by the size of the map, so that it can be exported "
                "for maps of one size alone: leave height and width out of dynamic_shapes (or "
                "dynamic_axes), or take an EMAU"
            )
        if min(height, width) < max(self.windows):
            raise InputError(
                f"the feature map has {height}×{width} pixels, fewer a side than windows="
                f"{self.windows} cut; take larger maps or fewer windows"
            )
        count = len(self.windows)
        heads = self.heads // count
        starts = self._shared(features).reshape(self.heads, self.num_bases, -1).chunk(count)
        results = []
        for n, x in enumerate(self.conv1(features).chunk(count, dim=1)):
            x = torch.unflatten(_cut(x, self.windows[n]), -1, (heads, -1)).transpose(-3, -2)
            result = self._iterate(x, starts[n], self._concentrations(n), trace=trace)
            results.append((self.windows[n], result))
        return results

    def _concentrations(self, grid: int) -> float | Tensor:
        if self.log_scale is None:
            return self.concentration
        mine = self.log_scale.reshape(-1).chunk(len(self.windows))[grid]
        return self.concentration * mine.exp()

    def extra_repr(self) -> str:
        """Shown by ``print(unit)``."""
        return f"windows={self.windows}, {super().extra_repr()}"


def _edges(size: int, p: int) -> list[tuple[int, int]]:
    """Where p windows begin and end, as even as can be."""
    return list(pairwise(n * size // p for n in range(p + 1)))


def _slots(p: int, height: int, width: int) -> int:
    """Pixels of p×p equal windows, each as large as the largest has to be."""
    return p * p * -(-height // p) * -(-width // p)


def _cut(x: Float[Tensor, "b c h w"], p: int) -> Float[Tensor, "b p2 n c"]:
    """The pixels of p×p windows, zeros after those of the smaller ones."""
    height, width = x.shape[-2:]
    rows, columns = -(-height // p), -(-width // p)
    x = x.permute(0, 2, 3, 1)
    windows = [
        F.pad(
            x[:, top:bottom, left:right], (0, 0, 0, columns - right + left, 0, rows - bottom + top)
        )
        for top, bottom in _edges(height, p)
        for left, right in _edges(width, p)
    ]
    return torch.stack(windows, dim=1).flatten(2, 3)


def _join(
    parts: Float[Tensor, "b p2 heads n d"], p: int, height: int, width: int
) -> Float[Tensor, "b heads hw d"]:
    """The map again, of what there is for the pixels of windows that were cut."""
    rows, columns = -(-height // p), -(-width // p)
    windows = iter(torch.unflatten(parts, -2, (rows, columns)).unbind(dim=1))
    strips = []
    for top, bottom in _edges(height, p):
        strip = [
            next(windows)[:, :, : bottom - top, : right - left] for left, right in _edges(width, p)
        ]
        strips.append(torch.cat(strip, dim=3))
    return torch.cat(strips, dim=2).flatten(2, 3)
