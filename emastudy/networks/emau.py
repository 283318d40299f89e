"""The EMA unit: EM attention as a drop-in module.

Floor: networks (imports em).
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emastudy.em import (
    EMResult,
    Normalization,
    Projected,
    expectation_maximization,
    normalize,
    reconstruct,
)

Maintenance = Literal["moving_average", "learned", "fixed", "grid", "pixels"]
Gradient = Literal["detached", "one_step", "unrolled"]


class EMAU(nn.Module):
    r"""Expectation-Maximization Attention Unit: (B, C, H, W) in, the same shape out.

    .. math::
        X &= \mathrm{conv}_1(\text{input}) \in \mathbb R^{N \times C},\quad N = H W \\
        Z, \mu &= \text{T iterations of EM on } X \text{ from } \mu^{(0)} \\
        \text{output} &= \mathrm{ReLU}\big(\text{input}
            + \mathrm{BN}(\mathrm{conv}_2(\mathrm{ReLU}(Z\mu)))\big)

    Every image runs its own EM; all start from the shared bases μ^(0), the buffer ``bases``
    (K, C). In training mode, and only there, a ``"moving_average"`` unit updates that buffer in
    place at the end of each forward pass,
    :math:`\mu^{(0)} \leftarrow \alpha\mu^{(0)} + (1-\alpha)\bar\mu^{(T)}`, with the mean taken
    over all images of the batch, on all processes when ``torch.distributed`` is initialised.

    Where no gradient goes through EM, X is never computed: conv1 is applied to the bases instead
    (see ``em.Projected``), which is the same up to rounding, and cheaper from 2TK pixels on. The
    plain attribute ``fold`` = False switches that off.

    Args:
        channels: C, channels of the feature map.
        num_bases: K.
        num_iterations: T. A plain attribute: it may be changed after training.
        concentration: λ of the responsibilities' softmax.
        normalization: What is done to each basis after an M step: "l2", "layer" or "none"; or
            "gaussian", which is "none" with -½λ‖μ_k‖² in the softmax, the EM of a Gaussian mixture.
        maintenance: Where μ^(0) comes from. Shared by all images and changing over training:
            "moving_average" (Eq. 15), "learned" (a parameter trained by back-propagation; wants
            ``gradient="unrolled"``) or "fixed" (as drawn at the start). Or made of the image's own
            features, and then there is no buffer: "grid" (means over K cells of equal size,
            a rows × columns grid as square as K allows) or "pixels" (K pixels chosen at random
            without repetition; in evaluation mode always the same places).
        momentum: α, the weight of the *old* bases. (``nn.BatchNorm2d`` weighs the new value.)
        gradient: Where gradients go. "detached": nowhere, EM is a constant and ``conv1`` a frozen
            random projection, as released. "one_step": through the last iteration, μ^(T-1)
            being a constant. "unrolled": through all T iterations.
        input_scale: Factor on the initial weight and bias of ``conv1``. Under "detached" and
            "l2" it does what ``concentration`` does, exactly; otherwise conv1 learns and may
            leave it.

    Raises:
        ValueError: An argument out of its range, named in the message; an input with other
            than ``channels`` channels, or, under "pixels", with fewer than K pixels.

    Differs from the paper: the paper's story is of unrolled gradients; its released code detaches,
    and detached is the default here. Differs from the released code: the moving average lives in
    the module, not in the training loop; l2 normalisation has no 1e-6 in its denominator.

    Source: Li et al., ICCV 2019, Section 5, Eqs 12-15.
    """

    bases: Tensor | None

    def __init__(
        self,
        channels: int,
        num_bases: int = 64,
        num_iterations: int = 3,
        *,
        concentration: float = 1.0,
        normalization: Normalization = "l2",
        maintenance: Maintenance = "moving_average",
        momentum: float = 0.9,
        gradient: Gradient = "detached",
        input_scale: float = 1.0,
    ) -> None:
        super().__init__()
        counts = {"channels": channels, "num_bases": num_bases, "num_iterations": num_iterations}
        for field, count in counts.items():
            if count < 1:
                raise ValueError(f"{field} is {count}; expected an integer ≥ 1")
        for field, choice, allowed in (
            ("normalization", normalization, get_args(Normalization)),
            ("maintenance", maintenance, get_args(Maintenance)),
            ("gradient", gradient, get_args(Gradient)),
        ):
            if choice not in allowed:
                raise ValueError(f"{field} is {choice!r}; expected one of {', '.join(allowed)}")
        for field, factor in (("concentration", concentration), ("input_scale", input_scale)):
            if not 0 < factor < float("inf"):
                raise ValueError(f"{field} is {factor}; expected a finite number > 0")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}; expected a number from 0 to 1")
        if maintenance == "learned" and gradient != "unrolled":
            raise ValueError(
                f"maintenance='learned' with gradient={gradient!r} would give the bases no "
                "gradient; use gradient='unrolled'"
            )
        self.num_bases = num_bases
        self.num_iterations = num_iterations
        self.concentration = concentration
        self.normalization = normalization
        self.maintenance = maintenance
        self.momentum = momentum
        self.gradient = gradient
        self.fold = True

        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        with torch.no_grad():
            for parameter in self.conv1.parameters():
                parameter.mul_(input_scale)
        if gradient == "detached":
            # No gradient can reach it: say so, or DistributedDataParallel waits for one for ever.
            self.conv1.requires_grad_(False)

        bases = F.normalize(torch.randn(num_bases, channels), dim=-1)
        if maintenance == "learned":
            self.bases = nn.Parameter(bases)
        else:
            shared = maintenance in ("moving_average", "fixed")
            self.register_buffer("bases", bases if shared else None)

    def attend(self, features: Float[Tensor, "b c h w"], *, trace: bool = False) -> EMResult:
        """The unit's EM on a feature map, for whoever wants to look inside.

        Args:
            features: The unit's input, (B, C, H, W).
            trace: Also record the objective F(μ^(0)), …, F(μ^(T)).

        Returns:
            Responsibilities Z^(T) (B, N, K) with N = H·W in row-major order, bases μ^(T)
            (B, K, C), and the objective (B, T+1) or None. ``bases`` of the module stay as they
            are. ``result.responsibilities[0, :, k].reshape(H, W)`` is the map of basis k.
        """
        self._check(features)
        with_gradient = self.gradient != "detached" and torch.is_grad_enabled()
        large = features.shape[-2] * features.shape[-1] > 2 * self.num_iterations * self.num_bases
        if self.fold and large and self.bases is not None and not with_gradient:
            assert self.conv1.bias is not None
            pixels = _pixels(features)
            x: Tensor | Projected = Projected(pixels, self.conv1.weight.flatten(1), self.conv1.bias)
            start = self.bases.clone()
        else:
            x, start = self.em_input(features)

        def run(bases: Tensor, num_iterations: int) -> EMResult:
            return expectation_maximization(
                x,
                bases,
                num_iterations,
                concentration=self.concentration,
                normalization=self.normalization,
                trace=trace,
            )

        if not with_gradient:
            with torch.no_grad():
                return run(start, self.num_iterations)
        if self.gradient == "unrolled":
            return run(start, self.num_iterations)
        if self.num_iterations == 1:
            return run(start, 1)
        with torch.no_grad():
            early = run(start, self.num_iterations - 1)
        last = run(early.bases, 1)
        if early.objective is None or last.objective is None:
            return last
        return last._replace(objective=torch.cat([early.objective, last.objective[..., 1:]], -1))

    def em_input(
        self, features: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "*b k c"]]:
        """What the unit's EM is given: X, pixel by pixel in row-major order, and μ^(0).

        μ^(0) is (K, C), or (B, K, C) where every image starts from its own features.
        """
        self._check(features)
        x = _pixels(self.conv1(features))
        return x, self._start(x, *features.shape[-2:])

    def _check(self, features: Tensor) -> None:
        if features.shape[1] != self.conv1.in_channels:
            raise ValueError(
                f"the feature map has {features.shape[1]} channels, this EMAU was made for "
                f"{self.conv1.in_channels}; make it with EMAU({features.shape[1]}, ...)"
            )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Attend, re-estimate, and add to the input."""
        result = self.attend(features)
        if self.training and self.maintenance == "moving_average":
            self._maintain(result.bases.detach())
        estimate = reconstruct(result.responsibilities, result.bases).to(features.dtype)
        estimate = F.relu(estimate.transpose(1, 2).reshape_as(features), inplace=True)
        return F.relu(features + self.norm(self.conv2(estimate)), inplace=True)

    def _start(self, x: Float[Tensor, "b n c"], height: int, width: int) -> Float[Tensor, "*b k c"]:
        """μ^(0): one for all images, (K, C), or each image's own, (B, K, C)."""
        if self.bases is not None:
            # A copy, because the moving average overwrites the buffer before backward reads it.
            return self.bases.clone()
        count = self.num_bases
        if self.maintenance == "grid":
            rows = max(d for d in range(1, math.isqrt(count) + 1) if count % d == 0)
            if height > width:
                rows = count // rows
            image = x.transpose(1, 2).reshape(len(x), -1, height, width)
            cells = F.adaptive_avg_pool2d(image, (rows, count // rows))
            return normalize(cells.flatten(2).transpose(1, 2), self.normalization)
        if x.shape[1] < count:
            raise ValueError(
                f"the feature map has {height}×{width} pixels, fewer than the {count} bases that "
                'are to start from them; take fewer bases or maintenance="grid"'
            )
        # Predictions must not depend on chance: evaluation draws from a generator of its own.
        generator = None if self.training else torch.Generator().manual_seed(0)
        places = torch.randperm(x.shape[1], generator=generator)[:count].to(x.device)
        return normalize(x[:, places], self.normalization)

    @torch.no_grad()
    def _maintain(self, bases: Float[Tensor, "b k c"]) -> None:
        """Eq. 15, over the images of all processes."""
        assert self.bases is not None
        total = bases.sum(dim=0)
        count = torch.tensor(float(bases.shape[0]), device=bases.device)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
            torch.distributed.all_reduce(count)
        self.bases.mul_(self.momentum).add_(total / count, alpha=1 - self.momentum)

    def extra_repr(self) -> str:
        """Shown by ``print(unit)``."""
        return (
            f"num_bases={self.num_bases}, num_iterations={self.num_iterations}, "
            f"concentration={self.concentration}, normalization={self.normalization}, "
            f"maintenance={self.maintenance}, momentum={self.momentum}, gradient={self.gradient}"
        )


def _pixels(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
    """(B, C, H, W) → (B, N, C): a view; its pixels are contiguous if the map is channels_last."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)
