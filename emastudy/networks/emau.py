"""The EMA unit: EM attention as a drop-in module."""

import math
import warnings
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emastudy import options
from emastudy.em import (
    EMResult,
    Gradient,
    Normalization,
    Projected,
    expectation_maximization,
    normalize,
    reconstruct,
    update_bases,
)
from emastudy.em.gradients import critical_concentration
from emastudy.em.iteration import Concentration, is_tracing
from emastudy.errors import InputError
from emastudy.networks.graphs import (
    ChannelsFirst,
    Unreached,
    for_any_size,
    is_making_a_graph,
    keep,
    pool_any_size,
)
from emastudy.networks.layers import batch_norm, has_hooks, is_plain, pixels
from emastudy.networks.maintenance import Processes, Starts, within_backward
from emastudy.options import PositiveFloat, PositiveInt, Probability

Maintenance = Literal["moving_average", "learned", "fixed", "grid", "pixels"]
ConcentrationScale = Literal["fixed", "learned", "critical"]


# What its parameters and buffers are made for, and so cannot change.
_MADE_FOR = {"channels", "num_bases", "heads", "maintenance", "gradient"}


class EMAU(nn.Module):
    r"""Expectation-Maximization Attention Unit: (B, C, H, W) in, the same shape out.

    .. math::
        X &= \mathrm{conv}_1(\text{input}) \in \mathbb R^{N \times C},\quad N = H W \\
        Z, \mu &= \text{T iterations of EM on } X \text{ from } \mu^{(0)} \\
        \text{output} &= \mathrm{ReLU}\big(\text{input}
            + \mathrm{BN}(\mathrm{conv}_2(\mathrm{ReLU}(Z\mu)))\big)

    Every image runs its own EM; all start from the shared bases μ^(0), the buffer ``bases``
    (K, C), of several heads (H, K, C/H). In training mode, and only there, a ``"moving_average"``
    unit updates that buffer in place at the end of each forward pass,
    :math:`\mu^{(0)} \leftarrow \alpha\mu^{(0)} + (1-\alpha)\bar\mu^{(T)}`, with the mean taken
    over all images of the batch, on all processes when ``torch.distributed`` is initialised. A
    batch of no images, or one that would make the bases NaN or infinite, leaves them as they are.

    *Heads.* With H heads the channels of X are split into H groups of neighbours, each with an EM
    of its own and K bases of C/H channels, at the N·K·C of one head:

    .. math::
        X = [X_1, \dots, X_H], \quad
        Z_h, \mu_h = \text{EM on } X_h \in \mathbb R^{N \times C/H} \text{ from } \mu_h^{(0)},
        \quad \tilde X = [Z_1\mu_1, \dots, Z_H\mu_H] .

    The heads share λ and nothing else. So their objectives add, :math:`F = \sum_h F_h`, and the
    bases of each head, all in one place, have a critical concentration of their own, that of X_h.
    Where :math:`d_h` different ones are left in head h, hard assignments tell up to
    :math:`\prod_h d_h \le K^H` kinds of pixels apart, where as many bases in one head tell
    :math:`\sum_h d_h` (which is more only where some heads keep a single one). The rank of X̃ is
    at most HK. Where the heads share :math:`\lVert x \rVert^2 = \sum_h \lVert x_h \rVert^2` evenly,
    features are shorter by √H, and under "l2" so are the largest exponents that there can be,
    :math:`\lambda \lVert x_h\rVert`. (Those of random bases are not: in fewer dimensions cosines
    are larger, by √H.)

    *Values.* With ``value_conv`` EM decides who belongs together, and what is handed out is
    another 1×1 conv of the input, V, as in attention:

    .. math::
        \tilde x_n = \sum_k z_{nk} \nu_k, \qquad
        \nu_k = \frac{\sum_m z_{mk} v_m}{\sum_m z_{mk}}

    (head by head). It learns in all regimes, also where Z is a constant.

    X is never computed: conv1 is applied to the bases instead (see ``em.Projected``), which is the
    same up to rounding, and cheaper from 2TK pixels on; of several heads each basis then takes
    inner products with all C channels, so that it pays while 2TK(H-1) is well below C. V, too, is
    left uncomputed where that is less work. The plain attribute ``fold`` = False switches that off,
    and so does whatever hangs on the conv: hooks, pruning, weight norm, an adapter in its place;
    ``as_recorded`` = True computes X where a gradient goes through EM, and leaves it to autograd:
    that rounds as the study's runs did, and is slower.

    In other people's networks:

    * *Low precision.* Under autocast, and after ``half()`` or ``bfloat16()``, the softmax, the
      norms and the moving average are computed in float32, with float16 the whole of EM.
      bfloat16 rounds the exponents λ x·μ to 8 bits: keep them well below 100. ``bfloat16()`` and
      ``half()`` round the buffer ``bases`` too; autocast leaves it in float32.
    * *Gradient checkpointing.* Bases move in the first pass only, and the repeated one starts from
      where that started. The batch norm's statistics move twice, as torch's always do then.
      ``torch.compile`` hides which pass is repeated: a compiled unit must not be checkpointed.
    * *Several processes.* All have to run the unit in training mode equally often, as with
      SyncBatchNorm; one without images may give it a batch of none. DistributedDataParallel's
      ``join`` wants ``throw_on_early_termination=True``. A process that waits in vain gets a
      ProcessError once the time-out of its group has passed. Where a process may skip the unit,
      give it a ``process_group`` of its own, in which its sums cannot be taken for those of
      gradients. Under ``nn.DataParallel`` the bases follow the images of the first device.
    * *Export.* ``torch.export``, ONNX and ``torch.jit.trace`` take a unit in evaluation mode, for
      maps of any size; conv1 is then not folded. They refuse "pixels", and, for maps of both
      orientations, "grid" where K is no square; ONNX has no eigenvalues for "critical".

    Args:
        channels: C, channels of the feature map.
        num_bases: Number of bases, K, in each head.
        num_iterations: Iterations, T. A plain attribute: it may be changed after training, as may
            ``concentration``, ``normalization`` and ``momentum``.
        heads: Groups of channels with an EM each, H; it divides ``channels``.
        value_conv: Re-estimate from the means of a 1×1 conv of their own, not from the bases.
        concentration: λ of the responsibilities' softmax, as a multiple of its scale.
        concentration_scale: "fixed", 1; "learned", a factor for each head, e^θ with the parameter
            θ = ``log_scale`` that starts at 0 (wants a gradient through EM); or "critical", λ_c of
            each image's X, head by head (``em.gradients.critical_concentration``, a constant to
            back-propagation): under "l2" nothing then depends on the scale of conv1, which is
            not folded.
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
            "l2" it does what ``concentration`` does, exactly; under "none" and "gaussian" it is a
            dial of its own; and where conv1 learns it is only where that starts.
        zero_init: The batch norm starts at 0, so that the unit begins as ReLU(input), else at 1. In
            short trainings of a head it may never get far from there.
        process_group: Processes to average the bases over; None = all. It may be changed later, as
            ``unit.processes.group``, and is no part of the state: a deep copy keeps it, a pickle
            does not.

    Raises:
        InputError: An argument out of its range, named in the message; an input that is no batch of
            maps with ``channels`` channels, or, under "pixels", with fewer than K pixels.
        ProcessError: Another process did not take part in the average.

    Differs from the paper: the paper's story is of unrolled gradients; its released code detaches,
    and detached is the default here. Differs from the released code: the moving average lives in
    the module, not in the training loop; l2 normalisation has no 1e-6 in its denominator.

    Source: Li et al., ICCV 2019, Section 5, Eqs 12-15.
    """

    bases: Tensor | None

    @options.checked
    def __init__(
        self,
        channels: PositiveInt,
        num_bases: PositiveInt = 64,
        num_iterations: PositiveInt = 3,
        *,
        heads: PositiveInt = 1,
        value_conv: bool = False,
        concentration: PositiveFloat = 1.0,
        concentration_scale: ConcentrationScale = "fixed",
        normalization: Normalization = "l2",
        maintenance: Maintenance = "moving_average",
        momentum: Probability = 0.9,
        gradient: Gradient = "detached",
        input_scale: PositiveFloat = 1.0,
        zero_init: bool = False,
        process_group: "torch.distributed.ProcessGroup | None" = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.num_bases = num_bases
        self.num_iterations = num_iterations
        self.heads = heads
        self.concentration = concentration
        self.concentration_scale = concentration_scale
        self.normalization = normalization
        self.maintenance = maintenance
        self.momentum = momentum
        self.gradient = gradient
        self.fold = True
        self.as_recorded = False
        self.processes = Processes(process_group)
        self._starts = Starts()
        self._check_combinations()

        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = batch_norm(channels, zero_init)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        with torch.no_grad():
            for parameter in self.conv1.parameters():
                parameter.mul_(input_scale)
        if gradient == "detached":
            # No gradient can reach it: DistributedDataParallel would miss one, and stop.
            self.conv1.requires_grad_(False)

        shape = (num_bases, channels) if heads == 1 else (heads, num_bases, channels // heads)
        bases = F.normalize(torch.randn(shape), dim=-1)
        if maintenance == "learned":
            self.bases = nn.Parameter(bases)
        else:
            shared = maintenance in ("moving_average", "fixed")
            self.register_buffer("bases", bases if shared else None)
        self.log_scale: nn.Parameter | None = None
        if concentration_scale == "learned":
            self.log_scale = nn.Parameter(torch.zeros(() if heads == 1 else heads))
        self.value = nn.Conv2d(channels, channels, 1) if value_conv else None
        if self.value is not None:
            nn.init.kaiming_normal_(self.value.weight, mode="fan_out")

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to change what the parameters were made for; to change it would do nothing."""
        if name in _MADE_FOR and repr(value) != repr(vars(self).get(name, value)):
            raise InputError(
                f"{name} is {vars(self)[name]!r} and stays so, for the unit's parameters were made "
                f"for it; make another {type(self).__name__} with {name}={value!r} and its other "
                "options"
            )
        super().__setattr__(name, value)

    def _check_combinations(self) -> None:
        if self.maintenance == "learned" and self.gradient != "unrolled":
            raise InputError(
                f"maintenance='learned' with gradient={self.gradient!r} would give the bases no "
                "gradient; use gradient='unrolled'"
            )
        if self.concentration_scale == "learned" and self.gradient == "detached":
            raise InputError(
                "concentration_scale='learned' with gradient='detached' would give it no gradient; "
                "use gradient='one_step' or 'unrolled', or concentration_scale='fixed'"
            )
        if self.channels % self.heads:
            raise InputError(
                f"heads is {self.heads} and does not divide channels, {self.channels}; use one of "
                + ", ".join(map(str, divisors(self.channels)))
            )

    @classmethod
    def recommended(cls, channels: int, num_bases: int = 64, **options: Any) -> "EMAU":
        """The unit with the settings that the study recommends; ``EMAU(channels)`` is the paper's.

        Two iterations, with gradients through both. The released code's three iterations without a
        gradient cost more in prediction, though less in training, and score less on scenes and on
        frozen features of photographs. Where a pretrained backbone learns along, on photographs end
        to end, they came out ahead in all three seeds, undecided (the book's page on iterations has
        the numbers): there try ``EMAU(channels)``, too. Several heads and windows are no part of
        it: they help on some data and cost on others (page 38). Options of :class:`EMAU` replace
        the recommended ones.
        """
        return cls(channels, num_bases, **{"num_iterations": 2, "gradient": "unrolled", **options})

    def attend(self, features: Float[Tensor, "b c h w"], *, trace: bool = False) -> EMResult:
        """The unit's EM on a feature map, for whoever wants to look inside.

        Args:
            features: The unit's input, (B, C, H, W).
            trace: Also record the objective F(μ^(0)), …, F(μ^(T)).

        Returns:
            Responsibilities Z^(T) (B, N, K), N pixels in row-major order, bases μ^(T) (B, K, C),
            and the objective (B, T+1) or None; of several heads (B, H, N, K), (B, H, K, C/H) and
            (B, H, T+1). ``bases`` of the module stay as they are.
            ``result.responsibilities[0, :, k].reshape(height, width)`` is the map of basis k.
        """
        self._check(features)
        x: Tensor | Projected
        folds = not (self.as_recorded and self._with_gradient())
        if folds and self._folds_conv1(features):
            x, start = self._fold(features, self.conv1), self._shared(features)
        else:
            x, start = self.em_input(features)

        return self._iterate(x, start, self.concentrations(x), trace=trace)

    def _iterate(
        self,
        x: Float[Tensor, "*b n d"] | Projected,
        start: Float[Tensor, "*any k d"],
        concentration: Concentration,
        *,
        trace: bool,
    ) -> EMResult:
        return expectation_maximization(
            x,
            start,
            self.num_iterations,
            concentration=concentration,
            normalization=self.normalization,
            gradient=self.gradient,
            trace=trace,
            one_pass=not self.as_recorded,
        )

    def _with_gradient(self) -> bool:
        """Whether a gradient goes through EM now."""
        return self.gradient != "detached" and torch.is_grad_enabled()

    def em_input(
        self, features: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b *heads n d"], Float[Tensor, "*any k d"]]:
        """What the unit's EM is given: X, pixel by pixel in row-major order, and μ^(0).

        X is (B, N, C), of several heads (B, H, N, C/H). μ^(0) is (K, C) or (H, K, C/H), after B
        where every image starts from its own features.
        """
        self._check(features)
        x = pixels(self.conv1(features))
        return self._split(x), self._start(features, x)

    def concentrations(self, x: Float[Tensor, "*b n d"] | Projected) -> Concentration:
        """λ on the X of :meth:`em_input`: a number, () or (H), or by image (B) or (B, H)."""
        if self.log_scale is not None:
            return self.concentration * self.log_scale.exp()
        if self.concentration_scale == "critical":
            assert isinstance(x, Tensor)
            return self.concentration * _critical(x, self.normalization)
        return self.concentration

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Attend, maintain the bases, re-estimate, and add to the input."""
        estimate, bases = self._attended(features)
        if self.training and self.maintenance == "moving_average" and not within_backward():
            self._maintain(bases.detach(), features)
        estimate = estimate.to(features.dtype)
        # A view, channels_last whatever the input is: a change of layout costs half a conv.
        estimate = estimate.reshape(-1, *features.shape[2:], estimate.shape[2]).permute(0, 3, 1, 2)
        # In place of a view, a graph keeps another view, whose strides of unknown size the compiler
        # cannot sort (torch 2.14), and autograd copies its gradient twice.
        in_place = not (estimate.requires_grad or is_making_a_graph())
        change = self.norm(self.conv2(F.relu(estimate, inplace=in_place)))
        return self._without_gradient_to_conv1(F.relu(self._add(features, change), inplace=True))

    def _add(self, features: Tensor, change: Tensor) -> Tensor:
        """Their sum, laid out like the features; in the memory of ``change`` if nobody needs it."""
        if is_making_a_graph() or change.dtype != features.dtype:
            return features + change
        if features.is_contiguous() and not change.is_contiguous():
            change = ChannelsFirst.apply(change)
        elif type(self.norm) is not nn.BatchNorm2d or has_hooks(self.norm):
            return features + change
        return change.add_(features)

    def _check(self, features: Tensor) -> None:
        if is_tracing():
            return  # it makes tensors of sizes, and warns of every question that is asked of them
        if features.ndim != 4:
            how = "; for a single one (C, H, W) give features[None]" if features.ndim == 3 else ""
            if how and features.shape[0] != self.channels == features.shape[-1]:
                how = "; of tokens (B, N, C) give features.mT.unflatten(-1, (H, W))"
            raise InputError(
                f"the feature map has shape {tuple(features.shape)}; expected a batch of maps, "
                f"(B, C, H, W){how}"
            )
        batch, channels, height, width = features.shape
        if channels != self.channels:
            how = f"make it with {type(self).__name__}({channels}, ...)"
            if width == self.channels:
                how = "if its channels come last, give features.permute(0, 3, 1, 2)"
            raise InputError(
                f"the feature map has {channels} channels, this {type(self).__name__} was made for "
                f"{self.channels}; {how}"
            )
        if height == 0 or width == 0:
            raise InputError(f"the feature map has {height}×{width} pixels; expected at least 1×1")
        if type(self.norm) is nn.BatchNorm2d and self.norm.training and batch * height * width == 1:
            raise InputError(
                "the feature map is one pixel of one image, of which the unit's batch norm can "
                "make no statistics; take a larger map or batch, or unit.norm.eval()"
            )

    def _attended(
        self, features: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b *heads k d"]]:
        """X̃, and μ^(T) as the moving average takes it."""
        result = self.attend(features)
        return self._estimate(features, result), result.bases

    def _estimate(
        self, features: Float[Tensor, "b c h w"], result: EMResult
    ) -> Float[Tensor, "b n c"]:
        """X̃: what each pixel's bases stand for, weighted by its responsibilities."""
        z, means = result.responsibilities, result.bases
        if self.value is not None:
            values: Tensor | Projected
            if self._folds(features, self.value, uses=1):
                values = self._fold(features, self.value)
            else:
                values = self._split(pixels(self.value(features)))
            means = update_bases(values, z, normalization="none")
        estimate = reconstruct(z, means)
        return estimate if self.heads == 1 else estimate.transpose(-3, -2).flatten(-2)

    def _split(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b *heads n d"]:
        """(B, N, C) → (B, H, N, C/H): neighbouring channels to a head; one head, nothing."""
        if self.heads == 1:
            return x
        x = torch.unflatten(x, -1, (self.heads, -1)).transpose(-3, -2)
        # Copies where the map is channels_last, once: or every matrix product would.
        return torch.unflatten(x.flatten(0, 1), 0, (-1, self.heads))

    def _fold(self, features: Tensor, conv: nn.Conv2d) -> Projected:
        """The conv's output, split and not computed; all heads see the same pixels."""
        assert conv.bias is not None
        y, weight, bias = pixels(features), conv.weight.flatten(1), conv.bias
        if self.heads == 1:
            return Projected(y, weight, bias)
        weight, bias = (torch.unflatten(part, 0, (self.heads, -1)) for part in (weight, bias))
        return Projected(y.unsqueeze(1), weight, bias)

    def _folds_conv1(self, features: Tensor) -> bool:
        if self.bases is None or self.concentration_scale == "critical":
            return False  # they are made of X itself
        return self._folds(features, self.conv1, uses=2 * self.num_iterations)

    def _folds(self, features: Tensor, conv: nn.Module, *, uses: int) -> bool:
        """Whether a conv is applied to bases instead, at each of so many uses of its output."""
        if not self.fold or for_any_size():
            return False
        # If it can be and that is less work: a use is N·K·C multiply-adds, after the conv's N·C²,
        # or else H·N·K·C + K·C².
        channels, bases = self.channels, uses * self.num_bases
        pixels = features.shape[-2] * features.shape[-1]
        less = pixels * (channels - (self.heads - 1) * bases) > bases * channels
        return less and is_plain(conv) and conv.bias is not None

    def _start(
        self, features: Float[Tensor, "b c h w"], x: Float[Tensor, "b n c"]
    ) -> Float[Tensor, "*any k d"]:
        """μ^(0): one for all images, or each image's own, see :meth:`em_input`."""
        if self.bases is not None:
            return self._shared(features)
        count = self.num_bases
        height, width = features.shape[-2:]
        if self.maintenance == "grid":
            rows = max(d for d in range(1, math.isqrt(count) + 1) if count % d == 0)
            columns = count // rows
            if rows != columns:
                if is_tracing():
                    raise InputError(
                        f'maintenance="grid" lays its {rows}×{columns} cells along the longer '
                        "side, which a traced unit cannot tell of later maps; take a square number "
                        "of bases, or torch.export"
                    )
                if height > width:
                    rows, columns = columns, rows
            image = x.transpose(1, 2).reshape(x.shape[0], x.shape[2], height, width)
            pool = pool_any_size if for_any_size() else F.adaptive_avg_pool2d
            cells = pool(image, (rows, columns))
            return normalize(self._split(cells.flatten(2).transpose(1, 2)), self.normalization)
        if for_any_size():
            raise InputError(
                'maintenance="pixels" draws its pixels by the size of the map, which a traced or '
                'exported unit cannot; use maintenance="grid" or shared bases'
            )
        if x.shape[1] < count:
            raise InputError(
                f"the feature map has {height}×{width} pixels, fewer than the {count} bases that "
                'are to start from them; take fewer bases or maintenance="grid"'
            )
        # Predictions must not depend on chance: evaluation draws from a generator of its own.
        generator = None if self.training else torch.Generator().manual_seed(0)
        places = torch.randperm(x.shape[1], generator=generator)[:count].to(x.device)
        return normalize(self._split(x[:, places]), self.normalization)

    def _shared(self, features: Tensor) -> Float[Tensor, "*heads k d"]:
        """μ^(0) of all images; of a pass that is repeated, what it started from the first time."""
        assert self.bases is not None
        before = self._starts.of(features) if self.training and within_backward() else None
        if before is not None:
            return before
        # A copy, because the moving average overwrites the buffer before backward reads it.
        moves = self.training and self.maintenance == "moving_average"
        if moves and torch.compiler.is_compiling() and not for_any_size():
            kept: Tensor = keep(self.bases)
            return kept
        return self.bases.clone()

    @torch.no_grad()
    def _maintain(self, bases: Float[Tensor, "b *heads k d"], features: Tensor) -> None:
        """Eq. 15, over the images of all processes; nothing if none, or if one is not finite."""
        assert self.bases is not None
        self._starts.remember(features, self.bases)
        total = bases.sum(dim=0)
        count = total.new_full((), bases.shape[0])
        self.processes.sum_(total, count)
        moved = self.bases.to(total.dtype) * self.momentum
        moved = moved.add_(total / count, alpha=1 - self.momentum).to(self.bases.dtype)
        self.bases.copy_(torch.where(moved.isfinite().all(), moved, self.bases))

    def _without_gradient_to_conv1(self, output: Tensor) -> Tensor:
        """Tell autograd of a ``conv1`` that somebody unfroze though no gradient can reach it.

        DistributedDataParallel would miss one, and stop at the next pass.
        """
        if self.gradient != "detached" or not torch.is_grad_enabled() or for_any_size():
            return output
        waiting = [parameter for parameter in self.conv1.parameters() if parameter.requires_grad]
        if not waiting:
            return output
        if not torch.compiler.is_compiling():
            warnings.warn(
                "conv1 of an EMAU requires a gradient, but gradient='detached' lets none through; "
                "unit.conv1.requires_grad_(False), or make the unit with gradient='one_step'",
                stacklevel=3,
            )
        connected: Tensor = Unreached.apply(output, *waiting)
        return connected

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Add, to torch's message that shapes differ, what to do about it."""
        theirs, ours = state_dict.get(f"{prefix}bases"), self.bases
        if theirs is not None and ours is not None and theirs.shape != ours.shape:
            errors: list[str] = args[-1]
            *heads, count, width = theirs.shape
            channels, more = math.prod(heads) * width, f", heads={heads[0]}" if heads else ""
            letters = "(K, C)" if ours.ndim == 2 else "(H, K, C/H)"
            errors.append(
                f"{prefix}bases have shape {tuple(theirs.shape)}, this {type(self).__name__}'s "
                f"{tuple(ours.shape)}, which is {letters}; make it with "
                f"{type(self).__name__}({channels}, num_bases={count}{more})"
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __prepare_scriptable__(self) -> "EMAU":
        """Asked by ``torch.jit.script``, which cannot read the unit's code."""
        raise InputError(
            "torch.jit.script cannot compile an EMAU; use torch.export.export, or "
            "torch.jit.trace in evaluation mode"
        )

    def extra_repr(self) -> str:
        """Shown by ``print(unit)``."""
        return (
            f"num_bases={self.num_bases}, num_iterations={self.num_iterations}, "
            f"heads={self.heads}, value_conv={self.value is not None}, "
            f"concentration={self.concentration}, "
            f"concentration_scale={self.concentration_scale}, normalization={self.normalization}, "
            f"maintenance={self.maintenance}, momentum={self.momentum}, gradient={self.gradient}"
        )


def divisors(number: int) -> list[int]:
    """The divisors of a number of channels: how many heads it can be split into."""
    return [d for d in range(1, number + 1) if number % d == 0]


@torch.no_grad()
def _critical(x: Float[Tensor, "*b n d"], normalization: Normalization) -> Float[Tensor, "*b"]:
    """λ_c of every image and head, bounded so that exponents stay finite where it does not."""
    x = x if x.dtype == torch.float64 else x.float()
    size = x.abs().amax(dim=(-2, -1)).clamp_min(1e-6)
    # Of size 1, because squares overflow; and eigenvalues cannot be asked of what is no number.
    scaled = (x / size[..., None, None]).nan_to_num(nan=0, posinf=0, neginf=0)
    critical = critical_concentration(scaled, normalization=normalization)
    power = 1 if normalization in ("l2", "layer") else 2
    return critical.nan_to_num(nan=1).clamp_max(1e4) / size**power
