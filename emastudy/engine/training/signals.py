"""What may stop a run from outside: signals, lost data, dead loading processes, full disks."""

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import torch

from emastudy.engine.checkpoints import unwritable
from emastudy.engine.config import RunConfig
from emastudy.engine.loading import loading_errors
from emastudy.engine.runtime import Runtime
from emastudy.errors import InputError, MissingFileError


class Interruption:
    """Within the context, SIGINT and SIGTERM are noted instead of obeyed.

    Only in the main thread (Python allows no other), and not where they are ignored, as by nohup.
    Afterwards the handlers are as before.

    Args:
        patient: Note a second SIGINT, too. Otherwise it stops at once, without a checkpoint.
    """

    def __init__(self, *, patient: bool) -> None:
        self.patient = patient
        self.signal: signal.Signals | None = None  #: The one that has come.
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not Python's
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self.signal == signal.SIGINT and not self.patient:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


def exit_as_signalled(received: signal.Signals, message: str) -> NoReturn:
    """Stop as programs do: KeyboardInterrupt for SIGINT, otherwise exit status 128 + number."""
    if received == signal.SIGINT:
        raise KeyboardInterrupt(message)
    raise SystemExit(128 + received)


@contextmanager
def exiting_on_sigterm() -> Iterator[None]:
    """Within the context SIGTERM raises SystemExit, so that what has to be undone is undone.

    Only in the main thread, and where nobody else handles it.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: exit_as_signalled(signal.SIGTERM, ""))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def translate_errors(config: RunConfig, runtime: Runtime) -> Iterator[None]:
    """Turn what goes wrong around a run into errors that say what it means and what to do.

    Raises:
        MissingFileError: A file of the dataset has gone.
        LoadingError: A process that loads data died.
        InputError: The GPU's memory is full, or batch norm got a single value per channel.
        CheckpointError: The disk is full or read-only.
    """
    run_dir = runtime.run_dir(config)
    resume = f"Start run {config.id} again: it resumes from its newest checkpoint in {run_dir}, if "
    resume += "it has one."
    try:
        with loading_errors(runtime.workers, resume):
            yield
    except FileNotFoundError as error:
        # From a loading process it comes with that process' whole traceback.
        lost = str(error).strip().splitlines()[-1]
        raise MissingFileError(
            f"a file of the dataset has gone while the run was training ({lost}). Is "
            f"{runtime.data_root or '.'} still there and mounted? {resume}"
        ) from error
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"images_per_step is {runtime.images_per_step} (0 = all at once), too many for the "
            f"GPU's memory; compute fewer of the {config.batch_size} at once. {resume}"
        ) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"batch_size is {config.batch_size}, images_per_step {runtime.images_per_step} (0 = "
            f"all at once) and crop_size {config.crop_size}: batch norm sees one pixel of one "
            "image, of which it can take no statistics. Compute two images or more at once, so "
            "that none is left over, or set freeze_bn=True (--freeze-bn); heads that pool "
            "whole images need this at any crop_size"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise unwritable(run_dir, error) from error  # TensorBoard's log
