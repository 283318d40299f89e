"""Where the jobs of a sweep run: what executors share, and this machine's.

An executor takes jobs, says how they stand, and stops them; ``queue`` decides what is run when.
"""

import logging
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit
import torch

from emastudy.engine import RunConfig, Runtime
from emastudy.engine.runtime import OTHER_RUNS_DIR
from emastudy.errors import InputError
from emastudy.files import check_writable
from emastudy.study.runs.forks import ForkServer, blocked
from emastudy.study.runs.job import JOB, RunJob

logger = logging.getLogger(__name__)

# A run that is told to stop ends its iteration and writes a checkpoint first.
_STOP_SECONDS = 60.0
#: The state of a job that is over; it is shown where a job has left no result.
ENDED = "ended without a record"
#: A job that was handed over, and one that is to be: (run, folder of records, runtime) → anything.
Submitted = submitit.Job[None]
Job = Callable[[RunConfig, Path, Runtime], object]


class Local:
    """This machine: one run per GPU, or as many as the cores carry.

    Parameters: "cores", how many the sweep may use; "gpus", a list as in CUDA_VISIBLE_DEVICES (of
    both, by default, all that this process may use); and submitit's own.
    """

    #: Seconds between two looks at the jobs.
    poll_seconds = 0.5

    def __init__(self, runtime: Runtime, parameters: Mapping[str, Any]) -> None:
        usual = {"cores": _cores(), "gpus": _gpus() if runtime.device == "auto" else []}
        parameters = {**usual, **parameters}
        cores, gpus = parameters.pop("cores"), parameters.pop("gpus")
        if not isinstance(cores, int) or cores < 1:
            raise InputError(f"executor local: cores is {cores!r}; expected a number of at least 1")
        if not isinstance(gpus, list):
            raise InputError(f"executor local: gpus is {gpus!r}; expected a list, e.g. [0,1]")
        side_by_side = len(gpus) or max(1, cores // (runtime.threads or 1))
        #: What every run is given: the sweep's runtime with a run's share of the machine.
        self.runtime = share(runtime, max(1, cores // side_by_side), gpu=bool(gpus))
        self._free: list[str | None] = [*map(str, gpus)] or [None] * side_by_side
        self._used: dict[str, str | None] = {}
        self._server = ForkServer() if sys.platform == "linux" and not gpus else None
        python = {"local_python": shlex.join(self._server.command(JOB))} if self._server else {}
        self._executor = submitit_executor("local", runtime, parameters, **python)

    @property
    def free(self) -> int:
        """How many further runs may start now."""
        return len(self._free)

    def submit(self, job: Job, configs: Sequence[RunConfig], folder: Path) -> list[Submitted]:
        """Start a job for each config, at most ``free``."""
        jobs = []
        for config in configs:
            gpu = self._free.pop()
            if gpu is None:  # a processor may have to be timed: here, and all runs compute alike
                self.runtime.choose_precision(config)
            if self._server:
                self._server.start()
            with blocked(signal.SIGINT):
                jobs.append(self._executor.submit(RunJob(), job, config, folder, self.runtime, gpu))
            self._used[jobs[-1].job_id] = gpu
        return jobs

    def look(self, jobs: Sequence[Submitted]) -> dict[str, str]:
        """Job id → "running" or how it ended; places of those that ended are free again."""
        states = {job.job_id: ENDED if job.done() else "running" for job in jobs}
        self._free += [self._used.pop(name) for name, state in states.items() if state == ENDED]
        return states

    def stop(self, jobs: Sequence[Submitted]) -> None:
        """Tell the runs to stop and wait until they have."""
        for _ in range(2):  # one that was just starting may have missed the first word
            for job in jobs:
                if not job.done():
                    with suppress(ProcessLookupError):
                        os.kill(int(job.job_id), signal.SIGTERM)  # submitit hands it on to the run
            until = time.monotonic() + _STOP_SECONDS / 2
            while time.monotonic() < until and not all(job.done() for job in jobs):
                time.sleep(self.poll_seconds)
        for job in jobs:
            if not job.done():
                logger.warning("a run does not stop; its log: %s", job.paths.stderr)


def submitit_executor(
    kind: str, runtime: Runtime, parameters: Mapping[str, Any], **options: Any
) -> submitit.Executor:
    """Submitit's executor "local" or "slurm", with parameters by submitit's own names."""
    logs = Path(runtime.runs_dir).absolute() / "logs"
    check_writable(logs, OTHER_RUNS_DIR)
    # A folder for each sweep: submitit names files by process or job, and those come round again.
    folder = tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=logs)
    executor = submitit.AutoExecutor(folder=folder, cluster=kind, **options)
    common = set(submitit.AutoExecutor._typed_parameters())
    parameters = {"timeout_min": 24 * 60, "name": "emastudy", **parameters}
    named = {k if k in common else f"{kind}_{k}": v for k, v in parameters.items()}
    try:
        executor.update_parameters(**named)
    except (AssertionError, NameError) as error:
        raise InputError(f"executor {kind}: {error}") from error
    return executor


def share(runtime: Runtime, cores: int, *, gpu: bool) -> Runtime:
    """A run's share of a machine: cores compute where there is no GPU, and feed it where one is."""
    threads, workers = (cores, cores - 1) if gpu else (max(1, cores - runtime.workers), 0)
    return replace(runtime, threads=runtime.threads or threads, workers=runtime.workers or workers)


def _gpus() -> list[str]:
    """Names of this machine's GPUs for CUDA_VISIBLE_DEVICES."""
    count = torch.cuda.device_count()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return chosen.split(",")[:count] if chosen else [str(index) for index in range(count)]


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
