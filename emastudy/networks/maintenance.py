"""What the moving average of a unit's bases needs to know beyond the unit."""

from collections import deque
from typing import Any

import torch
from torch import Tensor, distributed

from emastudy.em.iteration import is_tracing
from emastudy.errors import InputError, ProcessError

#: Training passes that are remembered for repetition: more than anybody keeps waiting for backward.
_REMEMBERED = 16


class Processes:
    """The processes whose images are averaged: a group of ``torch.distributed``, or all there are.

    A deep copy belongs to the same group; a pickle forgets it, because a group is made of processes
    that run.
    """

    def __init__(self, group: Any = None) -> None:
        self.group = group

    def sum_(self, *tensors: Tensor) -> None:
        """Sum each tensor over the processes, in place; alone, leave it.

        Raises:
            ProcessError: The group's time-out has passed, or another process has ended.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        try:
            for tensor in tensors:
                distributed.all_reduce(tensor, group=self.group)
        except RuntimeError as error:
            raise ProcessError(
                "EMAU could not average its bases over the processes: one has ended, or has not "
                "run the unit in training mode as often as this one (a process without images may "
                "give it a batch of none). How long to wait is up to the group: EMAU(..., "
                f"process_group=torch.distributed.new_group(timeout=...)). Cause: {error}"
            ) from error

    def __deepcopy__(self, memo: dict[int, Any]) -> "Processes":
        return self

    def __reduce__(self) -> tuple[type["Processes"], tuple[()]]:
        return Processes, ()


class Starts:
    """The bases that the latest training passes started from, for passes that are repeated.

    Gradient checkpointing runs a forward pass again, within the backward pass, when the bases have
    moved already. The repeated pass knows itself by its input: the mean over some pixels, spread
    over the map. A copy or a pickle begins with nothing.
    """

    def __init__(self) -> None:
        self._passes: deque[tuple[Tensor, Tensor]] = deque(maxlen=_REMEMBERED)

    @torch.no_grad()
    def remember(self, features: Tensor, bases: Tensor) -> None:
        """Note that a pass over ``features`` (B, C, H, W) starts from ``bases`` (K, C)."""
        if torch.compiler.is_compiling() or is_tracing():
            return  # a graph of tensors cannot tell when it is repeated
        self._passes.appendleft((_mark(features), bases.clone()))

    @torch.no_grad()
    def of(self, features: Tensor) -> Tensor | None:
        """Where the pass over ``features`` started; None if none of its shape is remembered.

        Raises:
            InputError: It is none of the passes that are remembered, or may be either of two.
        """
        mark = _mark(features)
        alike = [
            (other, bases)
            for other, bases in list(self._passes)  # replicas of DataParallel share them
            if (other.shape, other.dtype, other.device) == (mark.shape, mark.dtype, mark.device)
        ]
        if not alike:
            return None
        marks, starts = (torch.stack(tensors) for tensors in zip(*alike, strict=True))
        # The nearest, because a GPU may not repeat a pass to the last bit.
        distance = (marks - mark).abs().flatten(1).sum(dim=1).nan_to_num(nan=float("inf"))
        nearest = distance.min()
        found = starts[distance == nearest]
        unclear = (nearest > 0.01 * mark.abs().sum()) | (found != found[0]).any()
        if nearest.isfinite() and unclear:
            raise InputError(
                "a pass of the unit is repeated within backward (gradient checkpointing), and it "
                f"is not clear which of the last {_REMEMBERED} training passes it is: more were "
                "waiting for backward, or two had one input and other bases. Call backward sooner, "
                "or leave the unit out of the checkpoint"
            )
        return found[0]

    def __reduce__(self) -> tuple[type["Starts"], tuple[()]]:
        return Starts, ()


def within_backward() -> bool:
    """Whether a backward pass is running: a forward pass within it repeats an earlier one."""
    # What torch.utils.module_tracker and FSDP ask, too; torch.compile cannot trace it.
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _mark(features: Tensor) -> Tensor:
    down, across = (max(1, length // 8) for length in features.shape[2:])
    return features[:, :, ::down, ::across].float().mean(dim=(2, 3))
