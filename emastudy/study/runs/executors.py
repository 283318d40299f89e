"""Where the jobs of a sweep run: on this machine or on a Slurm cluster, through submitit.

Floor: study. A pool takes jobs, says which have ended, and stops them; ``sweep`` decides what is
run and when.
"""

import logging
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import submitit
import torch
import yaml

from emastudy.engine import RunConfig, Runtime
from emastudy.study.runs.record import check_writable

logger = logging.getLogger(__name__)

Executor = Literal["local", "slurm", "none"]
# What is done for one run: called with the run, the folder of records and the runtime.
Job = Callable[[RunConfig, Path, Runtime], object]
POLL_SECONDS = 0.5
# A run that is told to stop ends its iteration and writes a checkpoint first.
_STOP_SECONDS = 60.0
# Slurm's time limit: this long before it a run stops, writes a checkpoint and goes back in line.
_REQUEUE_SECONDS = 120


class SweepError(RuntimeError):
    """Some runs of a sweep failed; the message has each one's error. The others are recorded."""


def parse_executor(executor: str) -> tuple[Executor, dict[str, Any]]:
    """Name and parameters of an executor: "slurm partition=gpu" is "slurm", {"partition": "gpu"}.

    Raises:
        ValueError: Unknown name, or not of the form NAME=VALUE.
    """
    kind, *pairs = shlex.split(executor) or [""]
    if kind not in get_args(Executor):
        raise ValueError(f"executor is {kind!r}; expected one of {', '.join(get_args(Executor))}")
    if pairs and kind == "none":
        raise ValueError(f"executor is {executor!r}; none takes no parameters")
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"executor is {executor!r}; {pair!r} is not of the form NAME=VALUE")
        parameters[name] = yaml.safe_load(value)
    return kind, parameters  # type: ignore[return-value]


class _Run:
    """What is done for one run as a submitit job, in its own process.

    SIGTERM ends it: at once, or while it trains with a checkpoint after the current iteration.
    SIGUSR2, which is Slurm's word for "your time is up", does the same, and then puts the job back
    in line as submitit would have done in mid-iteration; started again, it resumes.
    """

    def __call__(
        self,
        job: Job,
        config: RunConfig,
        records: Path,
        runtime: Runtime,
        gpu: str | None = None,
    ) -> None:
        place = submitit.JobEnvironment()
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
        )
        logging.getLogger("accelerate").setLevel(logging.WARNING)
        logging.getLogger("submitit").propagate = False  # it has a handler of its own
        if gpu is not None:  # before torch looks for GPUs
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        if place.num_tasks > 1:
            exported = submitit.helpers.TorchDistributedEnvironment()
            exported.export(overwrite=True, set_cuda_visible_devices=False)
        if place.global_rank == 0:
            _link(runtime.run_dir(config) / "log", place.paths.stderr)
        requeue: Any = signal.getsignal(signal.SIGUSR2)
        asked = []

        def stop(number: int, _: object) -> None:
            raise SystemExit(128 + number)

        def time_is_up(number: int, _: object) -> None:
            asked.append(number)
            signal.raise_signal(signal.SIGTERM)  # whoever handles it now knows how to stop

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGUSR2, time_is_up)
        device = "CPU" if gpu is None else f"GPU {gpu}"
        logger.info(
            "%s starts: process %d, job %s, %s", config.id, os.getpid(), place.job_id, device
        )
        try:
            job(config, records, runtime)
        except BaseException:
            if asked:
                requeue(asked[0], None)  # does not return
            raise
        logger.info("%s is done", config.id)

    def checkpoint(self, *arguments: Any) -> submitit.helpers.DelayedSubmission:
        """What a requeued job does: the same; the run finds its checkpoint itself."""
        return submitit.helpers.DelayedSubmission(self, *arguments)


class Local:
    """This machine: one run per GPU, or as many as the cores carry."""

    def __init__(self, runtime: Runtime, parameters: dict[str, Any]) -> None:
        gpus = _gpus() if runtime.device == "auto" else []
        cores = _cores()
        side_by_side = len(gpus) or max(1, cores // (runtime.threads or 1))
        self.runtime = _share(runtime, max(1, cores // side_by_side), gpu=bool(gpus))
        self._free: list[str | None] = list(gpus) or [None] * side_by_side
        self._used: dict[str, str | None] = {}
        self._pool = _executor("local", runtime, parameters)

    @property
    def free(self) -> int:
        """How many further runs may start now."""
        return len(self._free)

    def submit(self, job: Job, configs: list[RunConfig], folder: Path) -> list[submitit.Job[None]]:
        """Start as many jobs as there are configs, at most ``free``."""
        jobs = []
        for config in configs:
            place = self._free.pop()
            # Ctrl-C reaches all processes of a terminal. The runs shall not die of it but hear of
            # it from the sweep, so they inherit the signal blocked.
            with _blocked(signal.SIGINT):
                jobs.append(self._pool.submit(_Run(), job, config, folder, self.runtime, place))
            self._used[jobs[-1].job_id] = place
        return jobs

    def ended(self, jobs: list[submitit.Job[None]]) -> dict[str, str]:
        """Job id → how it ended, for those that did."""
        over = {job.job_id: "ended without a record" for job in jobs if job.done()}
        self._free += [self._used.pop(name) for name in over]
        return over

    def running(self, jobs: list[submitit.Job[None]]) -> int:
        """How many of the jobs are at work."""
        return len(jobs)

    def stop(self, jobs: list[submitit.Job[None]]) -> None:
        """Tell the runs to stop and wait until they have."""
        for _ in range(2):  # one that was just starting may have missed the first word
            for job in jobs:
                if not job.done():
                    with suppress(ProcessLookupError):
                        os.kill(int(job.job_id), signal.SIGTERM)  # submitit hands it on to the run
            until = time.monotonic() + _STOP_SECONDS / 2
            while time.monotonic() < until and not all(job.done() for job in jobs):
                time.sleep(POLL_SECONDS)
        for job in jobs:
            if not job.done():
                logger.warning("a run does not stop; its log: %s", job.paths.stderr)


class Slurm:
    """A Slurm cluster. Its controller may be away for a while: the sweep waits for it."""

    free = 10_000  # Slurm itself decides how many run side by side

    def __init__(self, runtime: Runtime, parameters: dict[str, Any]) -> None:
        cores = parameters.setdefault(
            "cpus_per_task", max(1, runtime.threads) + (runtime.workers or 0)
        )
        # Since Slurm 22.05 a step does not inherit the job's number of cores.
        parameters.setdefault("srun_args", [f"--cpus-per-task={cores}"])
        parameters.setdefault("signal_delay_s", _REQUEUE_SECONDS)
        gpu = any("gpu" in f"{k}={v}" for k, v in parameters.items() if k != "partition")
        self.runtime = _share(runtime, cores, gpu=gpu)
        try:
            self._pool = _executor("slurm", runtime, parameters)
        except RuntimeError as error:
            raise SweepError(
                f"executor=slurm: {error} Run this on a machine of the cluster, or use "
                "executor=local"
            ) from error
        if self._states() is None:
            raise SweepError(
                "executor=slurm: Slurm's controller does not answer (`squeue` fails); ask `sinfo`, "
                "set SLURM_CONF where the configuration is not in its usual place, or use "
                "executor=local"
            )
        self._last: dict[str, str] = {}

    def submit(self, job: Job, configs: list[RunConfig], folder: Path) -> list[submitit.Job[None]]:
        """Hand jobs over to Slurm; none where its controller is away."""
        if self._states() is None:
            return []  # the controller is away: next time
        try:
            with self._pool.batch():  # one request for all, an array of jobs
                return [self._pool.submit(_Run(), job, c, folder, self.runtime) for c in configs]
        except submitit.core.utils.FailedJobError as error:
            if self._states() is None:
                return []
            raise SweepError(
                f"Slurm does not take the jobs: {error} Change the parameters that follow slurm "
                'in the executor, e.g. "slurm partition=NAME" with a name that sinfo shows'
            ) from error

    def ended(self, jobs: list[submitit.Job[None]]) -> dict[str, str]:
        """Job id → how it ended, for those that did.

        Slurm is asked by ``squeue``, since ``sacct`` wants a database that small clusters lack. A
        job is over where its result lies, or where it is off the queue twice running: between
        being stopped and being back in line a requeued one may look so once.
        """
        over = {
            job.job_id: "ended without a record" for job in jobs if job.paths.result_pickle.exists()
        }
        states = self._states() if jobs else {}
        if states is not None:
            now = {job.job_id: states.get(job.job_id, "GONE") for job in jobs}
            for name, state in now.items():
                if state in _OVER and self._last.get(name) in _OVER:
                    over.setdefault(name, f"ended without a record, Slurm says {state}")
            self._last = now
        return over

    def running(self, jobs: list[submitit.Job[None]]) -> int:
        """How many of the jobs are at work, the others being in line."""
        return sum(self._last.get(job.job_id) == "RUNNING" for job in jobs)

    def stop(self, jobs: list[submitit.Job[None]]) -> None:
        """Cancel the jobs; those at work get SIGTERM, and time to write a checkpoint."""
        for job in jobs:
            job.cancel(check=False)

    def _states(self) -> dict[str, str] | None:
        """State of every job of this user by its id; None where the controller does not answer."""
        command = ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i %T"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            logger.debug("squeue: %s", done.stderr.strip())
            return None
        return dict(line.split() for line in done.stdout.splitlines())


# States of Slurm that a job does not come back from; GONE is off the queue.
_OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "GONE",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
}


def _executor(kind: Executor, runtime: Runtime, parameters: dict[str, Any]) -> submitit.Executor:
    logs = Path(runtime.runs_dir).absolute() / "logs"
    check_writable(logs, "another with runs_dir (--runs-dir for the command)")
    # A folder for each sweep: submitit names files by process or job, and those come round again.
    folder = tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=logs)
    options = {"slurm_max_num_timeout": 1000} if kind == "slurm" else {}
    pool = submitit.AutoExecutor(folder=folder, cluster=kind, **options)
    common = set(submitit.AutoExecutor._typed_parameters())
    parameters = {"timeout_min": 24 * 60, "name": "emastudy", **parameters}
    try:
        pool.update_parameters(
            **{k if k in common else f"{kind}_{k}": v for k, v in parameters.items()}
        )
    except (AssertionError, NameError) as error:
        raise ValueError(f"executor {kind}: {error}") from error
    return pool


def _share(runtime: Runtime, cores: int, *, gpu: bool) -> Runtime:
    """A run's share of a machine: cores compute where there is no GPU, and feed it where one is."""
    if gpu:
        return replace(
            runtime, threads=runtime.threads or cores, workers=runtime.workers or cores - 1
        )
    return replace(runtime, threads=runtime.threads or max(1, cores - runtime.workers))


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


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _link(link: Path, target: Path) -> None:
    """Let ``runs/ID/log`` lead to the log of the run's latest job."""
    with suppress(OSError):  # a convenience
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))
