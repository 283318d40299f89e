"""Processes that load data: they leave signals to the one that computes, and may die."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader, Dataset, Subset

from emastudy.errors import LoadingError


def one_by_one(
    dataset: Dataset[Any], indices: Sequence[int], prepare: Callable[[Any], Any], workers: int
) -> DataLoader[Any]:
    """Loads entries of a dataset, each made ready by ``prepare`` in the process that loads it."""
    return DataLoader(
        Subset(dataset, indices),
        batch_size=None,
        collate_fn=prepare,
        num_workers=workers,
        worker_init_fn=ignore_signals,
    )


@contextmanager
def loading_errors(workers: int, then: str = "Then start again.") -> Iterator[None]:
    """Say what to do where one of so many loading processes dies.

    Raises:
        LoadingError: One died.
    """
    try:
        yield
    except (ConnectionError, EOFError, RuntimeError) as error:
        # The first two, where it died while it handed over a batch.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise LoadingError(
            f"a process that loads data died ({str(error).strip().splitlines()[:1]}); killed for "
            f"lack of memory? Use fewer workers (now {workers}; 0 loads in the computing process). "
            + then
        ) from error


def ignore_signals(worker: int) -> None:
    """For processes that load data: signals reach them too, but the computing process decides."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
