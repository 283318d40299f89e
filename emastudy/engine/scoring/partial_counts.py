"""Partial counts: what a long evaluation keeps in its run's folder, to go on after a stop.

Floor: engine.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

logger = logging.getLogger(__name__)


class PartialCounts:
    """Counts over the images scored so far, in a file that is whole or not there.

    An evaluation shorter than ``every`` writes none, and none is written where there is no run's
    folder.

    Args:
        counts: The metrics to keep.
        folder: The run's folder.
        identity: Says which evaluation it is: another's counts are never taken up. Called only
            where a file is to be read or written, since looking at all weights takes a moment.
        part: Which process of how many this is, as part of the file's name.
        every: Seconds between two files.
    """

    def __init__(
        self,
        counts: MetricCollection,
        folder: Path,
        identity: Callable[[], str],
        part: str,
        every: float,
    ) -> None:
        self._counts, self._folder, self._identity = counts, folder, identity
        self._part, self._every = part, every
        self._saved = time.monotonic()
        counts.persistent(True)

    @cached_property
    def _path(self) -> Path:
        return self._folder / f"evaluation-{self._identity()}-{self._part}.pt"

    def load(self, device: torch.device) -> int:
        """Take up the counts of the same evaluation; returns the number of images in them."""
        if not any(self._folder.glob(f"evaluation-*-{self._part}.pt")) or not self._path.is_file():
            return 0
        kept = torch.load(self._path, map_location=device, weights_only=True)
        self._counts.load_state_dict(kept["counts"])
        return int(kept["images"])

    def save(self, images: int) -> None:
        """Write the counts over the first images, if it is time to."""
        if time.monotonic() - self._saved < self._every or not self._folder.is_dir():
            return
        partial = self._path.with_suffix(".partial")
        try:
            torch.save({"images": images, "counts": self._counts.state_dict()}, partial)
            partial.replace(self._path)
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError
            logger.warning("counts so far cannot be kept in %s (%s)", self._folder, error)
            self._every = math.inf  # a read-only folder is no reason to stop scoring
        self._saved = time.monotonic()

    def remove(self) -> None:
        """The evaluation is complete."""
        if "_path" in self.__dict__:  # else nothing was read or written
            self._path.unlink(missing_ok=True)


def fingerprint(network: nn.Module, *tensors: Tensor, options: str) -> str:
    """Twelve hex digits of a SHA-256 over a network's options and weights, tensors and a text.

    Options are what ``repr(network)`` shows: a number of EM iterations changed after training makes
    another network, though no weight differs.
    """
    digest = hashlib.sha256(f"{options}\0{network!r}".encode())
    for tensor in (*network.state_dict().values(), *tensors):
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
