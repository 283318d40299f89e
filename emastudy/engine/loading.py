"""Processes that load data: they leave signals to the one that computes, and may die."""

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from accelerate.utils import recursively_apply
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, get_worker_info

from emastudy.errors import EmastudyError, LoadingError


class Loader(DataLoader[Any]):
    """Its processes ignore signals, and end with the iteration, however that ends.

    Torch ends them where the iterator is collected, which the traceback of an error may keep, and
    in the end by SIGTERM: it would wait for seconds, and leave them behind.
    """

    def __init__(self, dataset: Dataset[Any], **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=_ignore_signals, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        iterator: Any = super().__iter__()
        try:
            yield from iterator
        except EmastudyError as error:
            if "Original Traceback" not in str(error):
                raise
            # Of a process that loads data: the last line, "emastudy.errors.InputError: …", says it.
            raise type(error)(str(error).strip().splitlines()[-1].partition(": ")[2]) from error
        finally:
            if self.num_workers:
                iterator._shutdown_workers()


def one_by_one(
    dataset: Dataset[Any], indices: Sequence[int], prepare: Callable[[Any], Any], workers: int
) -> Loader:
    """Loads entries of a dataset, each made ready by ``prepare`` in the process that loads it."""
    return Loader(
        Subset(dataset, indices),
        batch_size=None,
        collate_fn=partial(_shared, prepare),
        num_workers=workers,
        # A loader draws a seed when its iteration begins. Not from the global stream: training
        # would begin elsewhere where features had to be built first.
        generator=torch.Generator(),
    )


def _ignore_signals(worker: int) -> None:
    """For processes that load data: signals reach them too, but the computing process decides."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def loading_errors(workers: int, then: str = "Then start again.") -> Iterator[None]:
    """Say what to do where one of so many loading processes dies."""
    try:
        yield
    except (ConnectionError, EOFError, RuntimeError) as error:
        # The first two, where it died while it handed over a batch. What an image's own error says
        # comes as "Caught … in DataLoader worker"; shared memory's files are called /torch_….
        text = str(error).strip()
        lost = "DataLoader worker" in text and ("Caught" not in text or "/torch_" in text)
        if isinstance(error, RuntimeError) and not lost:
            raise
        reason = text.splitlines()[-1] if text else type(error).__name__
        raise LoadingError(
            f"a process that loads data died ({reason}); for lack of memory, or of "
            f"shared memory? Use fewer workers (now {workers}; 0 loads in the computing process). "
            + then
        ) from error


def _shared(prepare: Callable[[Any], Any], entry: Any) -> Any:
    """What ``prepare`` makes; a loading process puts it into shared memory here and now.

    Left to the thread that hands it over, a full shared memory would be a wait without end.
    """
    ready = prepare(entry)
    return recursively_apply(Tensor.share_memory_, ready) if get_worker_info() else ready


@atexit.register
def _end_workers() -> None:
    """At exit Python sends SIGTERM to daemons and waits; those that ignore it would never end."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
