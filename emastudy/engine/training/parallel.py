"""Split a batch over processes and gradient-accumulation steps, with the numbers of one piece.

The loss is a mean over the valid pixels of the whole batch, and the moving average of EMA's bases
takes one step a batch, with the mean over all of its images. So any division gives the numbers of
the undivided batch up to rounding, where nothing else in the network looks across images. Batch
norm does, unless it is frozen (``RunConfig.freeze_bn``): see :func:`for_several_processes` and
:class:`BufferAverage`.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import recursively_apply
from torch import Tensor, nn
from torch.utils.data import Sampler

from emastudy.datasets import IGNORE
from emastudy.engine.config import LossOver, RunConfig
from emastudy.engine.training.loss import segmentation_loss
from emastudy.errors import InputError

logger = logging.getLogger(__name__)


class BatchShare(Sampler[list[int]]):
    """The parts of every batch that one process computes, as lists of offsets.

    Args:
        images_per_step: Largest part; 0 = a process' whole share.
    """

    def __init__(
        self, batches: int, batch_size: int, images_per_step: int, processes: int, process: int
    ) -> None:
        parts = math.ceil(batch_size / (processes * images_per_step)) if images_per_step else 1
        if batch_size < processes * parts:
            raise InputError(
                f"batch_size is {batch_size}, too small for {processes} processes with {parts} "
                f"part(s) each (images_per_step {images_per_step}): one would be empty. Start at "
                f"most {batch_size // parts} processes or raise images_per_step"
            )
        self.batches, self.batch_size = batches, batch_size
        self.process, self.parts = process, parts
        self._cuts = np.array_split(np.arange(batch_size), processes * parts)
        #: Images of each part, over all processes. They differ by at most one per process.
        self.sizes = [sum(map(len, self._cuts[part::parts])) for part in range(parts)]

    def __len__(self) -> int:
        return self.batches * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        own = self._cuts[self.process * self.parts : (self.process + 1) * self.parts]
        for batch in range(self.batches):
            for part in own:
                yield (batch * self.batch_size + part).tolist()


class BufferAverage:
    r"""One update of the running averages, made of those of several parts.

    EMA's bases and batch norm's statistics move as :math:`b \leftarrow \alpha b + (1-\alpha) m`
    with m a mean over images. That is affine in m: if every part starts from the same b, the mean
    of the parts' results, weighted by their numbers of images, is the result for the mean over all
    images. For EMA the common start matters twice, since b is also where its EM starts from.

    For batch norm it means that running statistics move once a batch at any division. Their mean is
    then that of the whole batch, their variance only the one within parts.
    """

    def __init__(self, network: nn.Module) -> None:
        self._buffers = [b for b in network.buffers() if b.is_floating_point()]
        self._start = [b.clone() for b in self._buffers]
        self._mean = [b.clone() for b in self._buffers]
        self._images = 0

    def add(self, images: int) -> None:
        """Take in the result of a part of so many images, and go back to the start."""
        self._images += images
        for buffer, start, mean in zip(self._buffers, self._start, self._mean, strict=True):
            # As an increment: what no part changed stays as it is to the last bit.
            mean.add_(buffer - mean, alpha=images / self._images)
            buffer.copy_(start)

    def finish(self) -> None:
        """Let the buffers have the combined result."""
        for buffer, mean in zip(self._buffers, self._mean, strict=True):
            buffer.copy_(mean)


def for_several_processes(network: nn.Module, config: RunConfig, accelerator: Accelerator) -> None:
    """Prepare a network, in place, for being trained by several processes.

    Dropout: the first process draws its masks as if it were alone, the others from streams of their
    own. Batch norm that is not frozen becomes SyncBatchNorm on GPUs, as in the released code: its
    statistics are the whole batch's. Torch has none for CPUs, where each process takes its share's.
    """
    if accelerator.process_index:
        stream = np.random.SeedSequence((config.seed, accelerator.process_index))
        torch.manual_seed(int(stream.generate_state(1, np.uint64)[0]))
    if config.freeze_bn:
        return
    if accelerator.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    elif accelerator.is_main_process:
        logger.warning(
            "%s: on CPUs batch norm takes its statistics from each process' share of the batch; "
            "for the numbers of one process use freeze_bn or GPUs",
            config.id,
        )


def backward(
    accelerator: Accelerator,
    network: nn.Module,
    parts: Sequence[Sequence[Any]],
    sizes: Sequence[int],
    *,
    over: LossOver = "labelled",
) -> Tensor:
    """Leave the gradient of the whole batch's loss in the parameters, and return that loss.

    Args:
        parts: What the network takes, and the mask, of each part of this process' share, on any
            device.
        over: Divide the loss by the number of labelled pixels, or of all, as the released code
            does.
    """
    device = accelerator.device
    counts = [torch.ones_like(m).sum() if over == "all" else (m != IGNORE).sum() for _, m in parts]
    valid = torch.stack(counts).sum()
    valid = accelerator.reduce(valid.to(device, non_blocking=True))
    average = BufferAverage(network) if len(parts) > 1 else None
    losses = []
    for number, ((inputs, mask), size) in enumerate(zip(parts, sizes, strict=True), 1):
        inputs = recursively_apply(_placed, inputs, device)
        mask = mask.to(device, non_blocking=True)
        # Gradients travel between processes with the last part, for all.
        with nullcontext() if number == len(parts) else accelerator.no_sync(network):
            value = segmentation_loss(network(inputs), mask, valid)  # prepare() added autocast
            # Times the processes, because DistributedDataParallel takes the mean over them.
            accelerator.backward(value * accelerator.num_processes)
        losses.append(value.detach())
        if average:
            average.add(size)
    if average:
        average.finish()
    total: Tensor = accelerator.reduce(torch.stack(losses).sum())
    return total


def _placed(x: Tensor, device: torch.device) -> Tensor:
    """Images or feature maps on a device, in the format that convolutions are fastest in."""
    return x.to(device, non_blocking=True, memory_format=torch.channels_last)
