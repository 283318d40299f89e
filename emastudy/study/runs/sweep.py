"""Sweeps: many runs, each trained at most once.

Floor: study. Runs whose record exists are loaded; the rest are trained in isolated processes, on
this machine or on Slurm, see ``pools``.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import submitit
from tqdm.auto import tqdm

from emastudy.engine import NonFiniteLossError, RunConfig, Runtime, evaluate, evaluation_data, train
from emastudy.study.runs.executors import (
    POLL_SECONDS,
    Job,
    Local,
    Slurm,
    SweepError,
    parse_executor,
)
from emastudy.study.runs.record import Record, RecordError, check_writable, circumstances, to_frame
from emastudy.study.runs.status import hold, holder, is_held, of_main

logger = logging.getLogger(__name__)

_LOG_LINES = 15


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
        pool = Slurm(runtime, parameters) if kind == "slurm" else Local(runtime, parameters)
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
    scores = evaluate(training.network, data, **runtime.scoring(config))
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


def _run_all(
    waiting: list[RunConfig],
    done: Callable[[RunConfig], bool],
    job: Job,
    folder: Path,
    pool: Local | Slurm,
) -> None:
    queue = list(waiting)
    active: dict[str, tuple[RunConfig, submitit.Job[None]]] = {}
    failures: dict[str, str] = {}
    deferred: set[str] = set()
    # miniters=0 lets update(0) redraw, so that the counts are live while no run ends; smoothing=0
    # reckons what is left from the mean since the start, where the default would take the second
    # since the last redrawing for the time of a run.
    bar = tqdm(
        total=len(waiting), desc="runs", unit="run", miniters=0, mininterval=1.0, smoothing=0
    )
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
            time.sleep(POLL_SECONDS)
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
