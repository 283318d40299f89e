"""What may stop a run from outside: signals, lost data, dead loading processes.

Floor: engine.
"""

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from emastudy.engine.checkpoints import CheckpointError, unwritable
from emastudy.engine.config import RunConfig
from emastudy.engine.runtime import Runtime

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Within the context, SIGINT and SIGTERM are noted instead of obeyed.

    Only in the main thread (Python allows no other), and not where they are ignored, as by nohup.
    Afterwards the handlers are as before.

    Args:
        patient: Note a second SIGINT, too. Otherwise it stops at once, without a checkpoint.

    Attributes:
        signal: What has come, or None.
    """

    def __init__(self, *, patient: bool) -> None:
        self.patient = patient
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not Python's
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self.signal == signal.SIGINT and not self.patient:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


def leave(received: signal.Signals, message: str) -> NoReturn:
    """Stop as programs do: KeyboardInterrupt for SIGINT, otherwise exit status 128 + number."""
    if received == signal.SIGINT:
        raise KeyboardInterrupt(message)
    raise SystemExit(128 + received)


def ignore_signals(worker: int) -> None:
    """For processes that load data: signals reach them too, but the training process decides."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def explained(config: RunConfig, runtime: Runtime) -> Iterator[None]:
    """Say of errors in mid-run what they mean and what to do."""
    run_dir: Path = runtime.run_dir(config)
    go_on = (
        f"Start run {config.id} again: it goes on from its newest checkpoint in {run_dir}, if it "
        "has one."
    )
    try:
        yield
    except FileNotFoundError as error:
        # From a loading process it comes with that process' whole traceback.
        lost = str(error).strip().splitlines()[-1]
        raise FileNotFoundError(
            f"a file of the dataset is gone in mid-run ({lost}). Is {runtime.data_root or '.'} "
            f"still there and mounted? {go_on}"
        ) from error
    except (ConnectionError, EOFError, RuntimeError) as error:
        # The first two, where it died while it handed over a batch.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise RuntimeError(
            f"a process that loads data died ({str(error).strip().splitlines()[:1]}); killed for "
            f"lack of memory? Use fewer workers (now {runtime.workers}; 0 loads in the training "
            f"process). {go_on}"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise CheckpointError(unwritable(run_dir, error)) from error  # TensorBoard's log
