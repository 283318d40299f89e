"""The lock of a run: one process, or one group of them, works on it and the others wait.

Beside its checkpoints a run's folder holds ``lock`` and, until the run is recorded,
``status.json``. The lock is the operating system's (flock): it goes when its process does, however
that ends, so none is ever left behind. Network file systems pass it on to the server (NFS since
version 4, Lustre mounted with ``flock``, GPFS). The status file says who took the lock last, for
people; nothing is decided by it.
"""

import dataclasses
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from emastudy.engine import RunConfig, Runtime
from emastudy.engine.runtime import OTHER_RUNS_DIR
from emastudy.errors import EmastudyError
from emastudy.files import check_writable, write_text

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_OURS = {"lock", "status.json"}
State = Literal["running", "interrupted", "failed"]
T = TypeVar("T")


@dataclass(frozen=True)
class Status:
    """What ``status.json`` says of a run that is not recorded yet."""

    state: State  #: "running" is believed only while the lock is held.
    config: dict[str, Any]
    records: str  #: Folder that its record will go to, or "".
    host: str  #: Where the process works, or worked, on it.
    pid: int
    job: str  #: Its Slurm job, or "".
    since: str
    error: str = ""  #: The error's type and message; "" unless failed.

    @classmethod
    def read(cls, run_dir: Path) -> "Status | None":
        """The status in a run's folder; None where there is none, or none that can be read."""
        try:
            return cls(**json.loads((run_dir / "status.json").read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError):
            return None

    @property
    def owner(self) -> str:
        """Process and place, for a sentence."""
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"


@contextmanager
def lock_run(config: RunConfig, records: Path | None, runtime: Runtime) -> Iterator[None]:
    """Work on a run alone: wait until nobody else does, and say so while it lasts.

    The processes of one distributed run lock it together. An error that leaves the block is noted
    in ``status.json``, with the folder of records, if there is one. A run that was refused, so that
    there is nothing else in its folder, leaves no folder.

    Raises:
        WriteError: The run's folder cannot be written.
    """
    run_dir = runtime.run_dir(config)
    lock = FileLock(run_dir / "lock")

    def locked() -> bool:
        return on_main_process(lambda: _try_lock(lock, run_dir), runtime)

    try:
        if not locked():
            logger.info("%s is being run by %s; waiting for it", config.id, lock_owner(run_dir))
            while not locked():
                time.sleep(_POLL_SECONDS)
        if not lock.is_locked:  # one of several processes, not the main one
            yield
            return
        _write_status("running", config, records, run_dir)
        try:
            yield
        except Exception as error:
            if isinstance(error, EmastudyError) and {p.name for p in run_dir.iterdir()} == _OURS:
                rmtree(run_dir, ignore_errors=True)
            else:
                said = f"{type(error).__name__}: {error}"
                _write_status("failed", config, records, run_dir, said)
            raise
        except BaseException:  # Ctrl-C, SIGTERM: not the run's fault
            _write_status("interrupted", config, records, run_dir)
            raise
        (run_dir / "status.json").unlink(missing_ok=True)
    finally:
        lock.release()


def is_locked(run_dir: Path) -> bool:
    """Whether a process works on the run now."""
    if not (run_dir / "lock").exists():
        return False
    lock = FileLock(run_dir / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:  # a folder that only others may write
        return False
    lock.release()
    return False


def lock_owner(run_dir: Path) -> str:
    """Who works on the run, for a sentence."""
    status = Status.read(run_dir)
    return status.owner if status else "another process"


def on_main_process(function: Callable[[], T], runtime: Runtime) -> T:
    """What a function returns in the main process, in every process of a distributed run."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return function()
    state = PartialState(cpu=not runtime.has_gpu)
    result: list[Any] = [function() if state.is_main_process else None]
    broadcast_object_list(result)
    return result[0]  # type: ignore[no-any-return]


def _try_lock(lock: FileLock, run_dir: Path) -> bool:
    check_writable(run_dir, OTHER_RUNS_DIR)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _write_status(
    state: State, config: RunConfig, records: Path | None, run_dir: Path, error: str = ""
) -> None:
    status = Status(
        state=state,
        config=config.to_dict(),
        records=str(records.absolute()) if records else "",
        host=socket.gethostname(),
        pid=os.getpid(),
        job=_slurm_job(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        error=error,
    )
    try:
        write_text(run_dir / "status.json", json.dumps(dataclasses.asdict(status), indent=1))
    except OSError as failure:  # for people only: a full disk must not hide the first error
        logger.warning("%s: status not written (%s)", config.id, failure)


def _slurm_job() -> str:
    """The Slurm job that this process belongs to, as scancel and scontrol name it, or ""."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")
