"""How runs stand: who works on one, which failed and why, which are recorded.

Floor: study.

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
from typing import Any, Literal, TypeVar

import pandas as pd
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from emastudy.engine import NUMBERS_VERSION, RunConfig, Runtime
from emastudy.study.runs.record import Record, RecordError, check_writable, write_json

logger = logging.getLogger(__name__)

State = Literal["finished", "outdated", "running", "interrupted", "failed", "damaged"]
#: What the states mean, and what to do about them.
STATES: dict[State, str] = {
    "finished": "recorded, with the numbers that this version makes",
    "outdated": "recorded before the numbers changed, see CHANGELOG.md; delete it and run again",
    "running": "a process works on it now",
    "interrupted": "stopped half-way; run again, it goes on from its checkpoint",
    "failed": "ended with an error; mend the cause and run again",
    "damaged": "its record cannot be trusted; delete it and run again",
}
_POLL_SECONDS = 0.5
_COLUMNS = [
    "profile",
    "id",
    "state",
    "head",
    "options",
    "seed",
    "progress",
    "miou",
    "minutes",
    "commit",
    "note",
]
T = TypeVar("T")


@dataclass(frozen=True)
class Status:
    """What ``status.json`` says of a run that is not recorded yet.

    Attributes:
        state: "running" is believed only while the lock is held.
        config: The run, see ``RunConfig.to_dict``.
        records: Folder that its record will go to, or "".
        host, pid: Process that works, or worked, on it.
        job: Its Slurm job, or "".
        since: UTC time of the state.
        error: The error's type and message; "" unless failed.
    """

    state: Literal["running", "interrupted", "failed"]
    config: dict[str, Any]
    records: str
    host: str
    pid: int
    job: str
    since: str
    error: str = ""

    @classmethod
    def read(cls, run_dir: Path) -> "Status | None":
        """The status in a run's folder; None where there is none, or none that can be read."""
        try:
            return cls(**json.loads((run_dir / "status.json").read_text()))
        except (OSError, TypeError, ValueError):
            return None

    def who(self) -> str:
        """Process and place, for a sentence."""
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"


@contextmanager
def hold(config: RunConfig, records: Path | None, runtime: Runtime) -> Iterator[None]:
    """Work on a run alone: wait until nobody else does, and say so while it lasts.

    The processes of one distributed run hold it together. An error that leaves the block is noted
    in ``status.json``.

    Args:
        config: The run.
        records: Folder that its record will go to; None where none is written.
        runtime: Gives the run's folder.

    Raises:
        RecordError: The run's folder cannot be written.
    """
    run_dir = runtime.run_dir(config)
    lock = FileLock(run_dir / "lock")
    told = False
    try:
        while not of_main(lambda: _taken(lock, run_dir), runtime):
            if not told:
                logger.info("%s is being run by %s; waiting for it", config.id, holder(run_dir))
                told = True
            time.sleep(_POLL_SECONDS)
        if not lock.is_locked:  # one of several processes, not the main one
            yield
            return
        _note("running", config, records, run_dir)
        try:
            yield
        except Exception as error:
            _note("failed", config, records, run_dir, f"{type(error).__name__}: {error}")
            raise
        except BaseException:  # Ctrl-C, SIGTERM: not the run's fault
            _note("interrupted", config, records, run_dir)
            raise
        (run_dir / "status.json").unlink(missing_ok=True)
    finally:
        lock.release()


def is_held(run_dir: Path) -> bool:
    """Whether a process works on the run now."""
    lock = FileLock(run_dir / "lock")
    if not (run_dir / "lock").exists():
        return False
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:  # a folder that only others may write
        return False
    lock.release()
    return False


def holder(run_dir: Path) -> str:
    """Who works on the run, for a sentence."""
    status = Status.read(run_dir)
    return status.who() if status else "another process"


def of_main(answer: Callable[[], T], runtime: Runtime) -> T:
    """The main process's answer, in every process of a distributed run.

    Args:
        answer: Asked in the main process alone.
        runtime: Gives the kind of device, by which the processes talk.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return answer()
    state = PartialState(cpu=runtime.device == "cpu")
    said: list[Any] = [answer() if state.is_main_process else None]
    broadcast_object_list(said)
    return said[0]  # type: ignore[no-any-return]


def survey(records: Path, runs: Path) -> pd.DataFrame:
    """How all runs stand: those recorded, and those that a process works or worked on.

    Args:
        records: Folder of the profiles' records, ``experiments/records``.
        runs: Folder of checkpoints and logs.

    Returns:
        One row a run and profile: "profile", "id", "state" (see :data:`STATES`), "head", "options"
        (those that tell the profile's runs apart), "seed", "progress" (iterations, done of all),
        "miou", "minutes" of training, "commit" and "note" (error, or who works on it).
    """
    rows = []
    recorded = set()
    for path in sorted(records.glob("*/*.json")):
        profile = path.parent.name
        try:
            record = Record.read(path)
        except RecordError as error:
            rows.append({"profile": profile, "id": path.stem, "state": "damaged", "note": error})
            continue
        recorded.add((profile, path.stem))
        total = record.config.iterations
        rows.append(
            {
                "profile": profile,
                "id": path.stem,
                "state": "finished" if record.numbers == NUMBERS_VERSION else "outdated",
                **_about(record.config),
                "progress": f"{total}/{total}",
                "miou": record.metrics["miou"],
                "minutes": record.seconds["train"] / 60,
                "commit": record.commit,
                "note": "",
            }
        )
    for run_dir in sorted(path.parent for path in runs.glob("*/status.json")):
        status = Status.read(run_dir)
        if status is None:
            continue
        folder = Path(status.records)
        profile = folder.name if folder.parent == records.absolute() else str(folder)
        held = is_held(run_dir)
        if (profile, run_dir.name) in recorded and not held:
            continue
        # Killed with no chance to note it, where the lock is gone.
        state = "running" if held else status.state.replace("running", "interrupted")
        config = RunConfig.from_dict(status.config)
        done = max((int(p.name[-6:]) for p in run_dir.glob("checkpoint-??????")), default=0)
        rows.append(
            {
                "profile": profile,
                "id": run_dir.name,
                "state": state,
                **_about(config),
                "progress": f"{done}/{config.iterations}",
                "note": status.error or status.who(),
            }
        )
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    frame["options"] = frame.groupby("profile")["options"].transform(_tell_apart)
    return frame


def _about(config: RunConfig) -> dict[str, Any]:
    options = json.loads(config.canonical_json())
    known = {name: options.pop(name, None) for name in ("head", "seed", "iterations")}
    for table in [name for name in options if name.endswith("_options")]:
        options |= options.pop(table)
    return {"head": config.head, "seed": known["seed"] or 0, "options": options}


def _tell_apart(options: pd.Series) -> pd.Series:
    """Options as text, without those that all runs of the group share."""
    texts = [{f"{k}={v}" for k, v in table.items()} for table in options.map(_or_empty)]
    common = set.intersection(*texts)
    return pd.Series([" ".join(sorted(text - common)) for text in texts], index=options.index)


def _or_empty(table: Any) -> dict[str, Any]:
    return table if isinstance(table, dict) else {}  # a damaged record has none


def _taken(lock: FileLock, run_dir: Path) -> bool:
    check_writable(run_dir, "another with runs_dir (--runs-dir for the command)")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _note(
    state: Literal["running", "interrupted", "failed"],
    config: RunConfig,
    records: Path | None,
    run_dir: Path,
    error: str = "",
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
        write_json(run_dir / "status.json", dataclasses.asdict(status))
    except RecordError as failure:  # for people only: a full disk must not hide the first error
        logger.warning("%s: status not noted (%s)", config.id, failure)


def _slurm_job() -> str:
    """The Slurm job that this process belongs to, as scancel and scontrol name it, or ""."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")
