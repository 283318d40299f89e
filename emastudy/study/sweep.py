"""Sweeps: many runs, each trained at most once.

Floor: study. Runs whose record exists are loaded; the rest are trained in isolated processes, on
this machine or on Slurm, through submitit.
"""

import logging
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import submitit
import torch
import yaml
from tqdm.auto import tqdm

from emastudy.engine import NonFiniteLossError, RunConfig, Runtime, evaluate, evaluation_data, train
from emastudy.study.records import (
    Record,
    RecordError,
    check_writable,
    circumstances,
    to_frame,
)
from emastudy.study.status import hold, holder, is_held, of_main

logger = logging.getLogger(__name__)

Executor = Literal["local", "slurm", "none"]
# What is done for one run: called with the run, the folder of records and the runtime.
Job = Callable[[RunConfig, Path, Runtime], object]
_POLL_SECONDS = 0.5
# A run that is told to stop ends its iteration and writes a checkpoint first.
_STOP_SECONDS = 60.0
# Slurm's time limit: this long before it a run stops, writes a checkpoint and goes back in line.
_REQUEUE_SECONDS = 120
_LOG_LINES = 15


class SweepError(RuntimeError):
    """Some runs of a sweep failed; the message has each one's error. The others are recorded."""


def run_one(config: RunConfig, records: str | Path, runtime: Runtime = Runtime()) -> Record:  # noqa: B008
    """Train (or go on training) one run, score it and write its record.

    Where another process works on the same run, it waits for that one's record. The processes of
    one distributed run (``accelerate launch``, ``torchrun``) all call this; the main one writes.

    Args:
        config: The run.
        records: Folder for the record.
        runtime: Where the run happens.

    Returns:
        The record; it is loaded, and nothing trained, where it exists.

    Raises:
        RecordError: The folder of records, or the run's own, cannot be written.
    """
    folder = Path(records)
    known = of_main(lambda: _recorded(config, folder), runtime)
    if known:
        return known
    of_main(lambda: check_writable(folder), runtime)
    with hold(config, folder, runtime):
        # Whom we waited for may have made it.
        return of_main(lambda: _recorded(config, folder), runtime) or _make(config, folder, runtime)


def run(
    configs: Sequence[RunConfig],
    records: str | Path,
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
    *,
    executor: str = "local",
) -> pd.DataFrame:
    """Make sure that every run has its record, and return them as a tidy table.

    Each run is a process of its own with a log of its own, ``runs/ID/log``. A run that fails does
    not stop the others; one whose loss becomes NaN or infinite is reported, and in no table. Ctrl-C
    stops those at work, which keep a checkpoint, and leaves all that is recorded; the same call
    goes on. What another sweep works on is waited for, not run twice.

    Args:
        configs: The runs; the same one twice counts once.
        records: Folder of the records.
        runtime: Where the runs happen.
        executor: "local", "slurm", or "none": train nothing, return what is recorded. Local runs
            have a GPU each where there are any, else a share of the cores: ``runtime.threads``, or
            one, by which for small networks many runs side by side are faster than many threads
            for one. What Slurm shall give to a run follows its name, as submitit calls it:
            ``"slurm partition=gpu gpus_per_node=1 cpus_per_task=8 mem_gb=32 timeout_min=600"``.
            One whose time is up, or who is preempted, is requeued and goes on from its checkpoint.

    Returns:
        One row a run, in the order of ``configs``, see ``records.load_records``.

    Raises:
        ValueError: Unknown executor or parameter of it.
        SweepError: Runs failed for another reason than a loss that is not finite: all others have
            finished and are recorded, run again to retry. Or not one of the runs is recorded.
    """
    folder = Path(records)
    configs = list({config.id: config for config in configs}.values())

    def done(config: RunConfig) -> bool:
        return _recorded(config, folder) is not None

    complete(configs, done, run_one, folder, runtime, executor)
    recorded = [record for config in configs if (record := _recorded(config, folder))]
    if configs and not recorded:
        raise SweepError(f"all {len(configs)} runs diverged; lower the learning rate")
    return to_frame(recorded)


def complete(
    configs: Sequence[RunConfig],
    done: Callable[[RunConfig], bool],
    job: Job,
    folder: Path,
    runtime: Runtime,
    executor: str,
) -> None:
    """Do one job for every config for which it is not done yet, see :func:`run`.

    Args:
        configs: The runs.
        done: Whether the job's result is there.
        job: Called in a process of its own as ``job(config, folder, runtime)``.
        folder: Folder of the records.
        runtime: Where the jobs run.
        executor: "local", "slurm" and its parameters, or "none": do nothing.

    Raises:
        ValueError, SweepError: As :func:`run`.
    """
    kind, parameters = parse_executor(executor)
    waiting = [config for config in configs if not done(config)]
    if waiting and kind != "none":
        check_writable(folder)
        pool = _Slurm(runtime, parameters) if kind == "slurm" else _Local(runtime, parameters)
        _run_all(waiting, done, job, folder, pool)
    elif waiting and len(waiting) == len(configs):
        raise SweepError(
            f"none of the {len(configs)} runs is recorded in {folder}; run the notebook with "
            "executor=local (make study), or choose a profile with records (PROFILE=scenes)"
        )
    elif waiting:
        logger.warning("%d of %d runs are not recorded in %s", len(waiting), len(configs), folder)


def _make(config: RunConfig, folder: Path, runtime: Runtime) -> Record:
    training = train(config, runtime)
    data = evaluation_data(training.network, config, runtime)
    began = time.monotonic()
    scores = evaluate(training.network, data, config, runtime)
    record = Record(
        config=config,
        metrics=scores.means,
        iou={name: None if value != value else value for name, value in scores.iou.items()},
        confusion=scores.confusion.tolist(),
        curves=training.curves,
        seconds={"train": training.seconds, "evaluate": time.monotonic() - began},
        parameters=sum(p.numel() for p in training.network.parameters()),
        **circumstances(runtime.precision(config)),
    )
    of_main(lambda: record.write(folder), runtime)
    return record


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


class _Local:
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
                time.sleep(_POLL_SECONDS)
        for job in jobs:
            if not job.done():
                logger.warning("a run does not stop; its log: %s", job.paths.stderr)


class _Slurm:
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


def _run_all(
    waiting: list[RunConfig],
    done: Callable[[RunConfig], bool],
    job: Job,
    folder: Path,
    pool: _Local | _Slurm,
) -> None:
    queue = list(waiting)
    active: dict[str, tuple[RunConfig, submitit.Job[None]]] = {}
    failures: dict[str, str] = {}
    deferred: set[str] = set()
    # miniters=0 lets update(0) redraw, so that the counts are live while no run ends.
    bar = tqdm(total=len(waiting), desc="runs", unit="run", miniters=0, mininterval=1.0)
    try:
        while queue or active:
            ready: list[RunConfig] = []
            for config in queue[:]:
                if len(ready) == pool.free:
                    break
                run_dir = pool.runtime.run_dir(config)
                if is_held(run_dir):
                    if config.id not in deferred:
                        logger.info("%s is being run by %s", config.id, holder(run_dir))
                    deferred.add(config.id)
                elif config.id in deferred and done(config):
                    queue.remove(config)
                    bar.update()
                else:
                    ready.append(config)
            if ready:
                for config, one in zip(ready, pool.submit(job, ready, folder), strict=False):
                    queue.remove(config)
                    active[one.job_id] = (config, one)
            jobs = [one for _, one in active.values()]
            for name, state in pool.ended(jobs).items():
                config, one = active.pop(name)
                if not done(config):
                    failures[config.id] = _report(one, state)
                    logger.error("run %s failed: %s", config.id, failures[config.id])
                bar.update()
            running = pool.running([one for _, one in active.values()])
            counts = {"running": running, "failed": len(failures)}
            if len(active) > running:
                counts["queued"] = len(active) - running
            bar.set_postfix(counts, refresh=False)
            bar.update(0)
            time.sleep(_POLL_SECONDS)
    finally:
        if active:  # interrupted: checkpoints and finished records stay
            pool.stop([one for _, one in active.values()])
        bar.close()
    diverged = [name for name, text in failures.items() if NonFiniteLossError.__name__ in text]
    if diverged:
        logger.warning(
            "%d of %d runs diverged, which is their result: they have no record, and tables are "
            "without them: %s",
            len(diverged),
            len(waiting),
            ", ".join(diverged),
        )
    if len(failures) > len(diverged):
        raise SweepError(
            f"{len(failures)} of {len(waiting)} runs failed; the others are recorded, run again "
            "to retry.\n\n" + "\n\n".join(f"{name}: {text}" for name, text in failures.items())
        )


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


def _report(job: submitit.Job[None], state: str) -> str:
    """How a job ended, with the tail of its log."""
    path = job.paths.stderr
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return f"{state}; it left no log at {path}"
    # Of a progress bar, which is one long line of carriage returns, what was drawn last.
    lines = [line.rpartition("\r")[2] for line in text.rstrip().split("\n")]
    tail = "\n".join(f"    {line}" for line in lines[-_LOG_LINES:])
    return f"{state}; the end of its log {path}:\n{tail}"


def _recorded(config: RunConfig, folder: Path) -> Record | None:
    path = folder / f"{config.id}.json"
    if not path.exists():
        return None
    try:
        return Record.read(path)
    except RecordError as error:
        logger.warning("%s The run is made again.", error)
        return None
