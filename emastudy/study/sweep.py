"""Sweeps: many runs, each trained at most once.

Floor: study. Runs whose record exists are loaded; the rest are trained in isolated processes, on
this machine or on Slurm, through submitit.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import submitit
from tqdm.auto import tqdm

from emastudy.engine import RunConfig, Runtime, evaluate, evaluation_data, train
from emastudy.study.records import Record, RecordError, circumstances, to_frame

logger = logging.getLogger(__name__)

Executor = Literal["local", "slurm", "none"]
_POLL_SECONDS = 0.5


class SweepError(RuntimeError):
    """Some runs of a sweep failed; the message has each one's error. The others are recorded."""


def run_one(config: RunConfig, records: str | Path, runtime: Runtime = Runtime()) -> Record:  # noqa: B008
    """Train (or go on training) one run, score it and write its record.

    Args:
        config: The run.
        records: Folder for the record.
        runtime: Where the run happens.

    Returns:
        The record; it is loaded, and nothing trained, where it exists.
    """
    known = _recorded(config, Path(records))
    if known:
        return known
    training = train(config, runtime)
    data = evaluation_data(training.network, config, runtime)
    began = time.monotonic()
    scores = evaluate(training.network, data, config, runtime)
    record = Record(
        config=config,
        metrics={"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy},
        iou={name: None if value != value else value for name, value in scores.iou.items()},
        confusion=scores.confusion.tolist(),
        curves=training.curves,
        seconds={"train": training.seconds, "evaluate": time.monotonic() - began},
        parameters=sum(p.numel() for p in training.network.parameters()),
        **circumstances(runtime.use_bf16(config)),
    )
    record.write(Path(records))
    return record


def run(
    configs: Sequence[RunConfig],
    records: str | Path,
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
    *,
    executor: Executor = "local",
    **slurm: Any,
) -> pd.DataFrame:
    """Make sure that every run has its record, and return them as a tidy table.

    Args:
        configs: The runs; the same one twice counts once.
        records: Folder of the records.
        runtime: Where the runs happen. With ``threads=0`` each run of a local sweep gets one CPU
            thread, and as many run side by side as there are cores: for small networks that is
            faster than many threads for one.
        executor: "local", "slurm", or "none": train nothing, return what is recorded.
        slurm: Parameters of submitit's executor, e.g. ``slurm_partition="gpu"``.

    Returns:
        One row a run, in the order of ``configs``, see ``records.load_records``.

    Raises:
        ValueError: Unknown executor.
        SweepError: Runs failed: all others have finished and are recorded, run again to retry.
            Or, with "none", not one of the runs is recorded.
    """
    folder = Path(records)
    configs = list({config.id: config for config in configs}.values())

    def done(config: RunConfig) -> bool:
        return _recorded(config, folder) is not None

    complete(configs, done, run_one, folder, runtime, executor, **slurm)
    recorded = (_recorded(config, folder) for config in configs)
    return to_frame(record for record in recorded if record)


def complete(
    configs: Sequence[RunConfig],
    done: Callable[[RunConfig], bool],
    job: Callable[[RunConfig, Path, Runtime], object],
    folder: Path,
    runtime: Runtime,
    executor: Executor,
    **slurm: Any,
) -> None:
    """Do one job for every config for which it is not done yet, see :func:`run`.

    Args:
        configs: The runs.
        done: Whether the job's result is there.
        job: Called in a process of its own as ``job(config, folder, runtime)``.
        folder: Folder of the records.
        runtime: Where the jobs run.
        executor: "local", "slurm", or "none": do nothing.
        slurm: Parameters of submitit's executor.

    Raises:
        ValueError, SweepError: As :func:`run`.
    """
    if executor not in get_args(Executor):
        raise ValueError(
            f"executor is {executor!r}; expected one of {', '.join(get_args(Executor))}"
        )
    waiting = [config for config in configs if not done(config)]
    if waiting and executor != "none":
        _run_all(waiting, job, folder, runtime, executor, slurm)
    elif waiting and len(waiting) == len(configs):
        raise SweepError(
            f"none of the {len(configs)} runs is recorded in {folder}; run the notebook with "
            "executor=local (make study), or choose a profile with records (PROFILE=scenes)"
        )
    elif waiting:
        logger.warning("%d of %d runs are not recorded in %s", len(waiting), len(configs), folder)


def _run_all(
    waiting: list[RunConfig],
    job: Callable[[RunConfig, Path, Runtime], object],
    folder: Path,
    runtime: Runtime,
    kind: Executor,
    slurm: dict[str, Any],
) -> None:
    if kind == "local" and not runtime.threads:
        runtime = replace(runtime, threads=1)
    side_by_side = max(1, (os.cpu_count() or 1) // runtime.threads) if kind == "local" else 10**6
    pool = submitit.AutoExecutor(folder=Path(runtime.runs_dir) / "logs", cluster=kind)
    pool.update_parameters(name="emastudy", timeout_min=24 * 60, **slurm)

    queue = list(reversed(waiting))
    active: dict[str, submitit.Job[object]] = {}
    failures: dict[str, str] = {}
    bar = tqdm(total=len(waiting), desc="runs", unit="run")
    try:
        while queue or active:
            while queue and len(active) < side_by_side:
                config = queue.pop()
                active[config.id] = pool.submit(job, config, folder, runtime)
            for name in [name for name, one in active.items() if one.done()]:
                error = active.pop(name).exception()
                if error is not None:
                    failures[name] = str(error).strip()
                    logger.error("run %s failed: %s", name, failures[name])
                bar.update()
            bar.set_postfix(running=len(active), failed=len(failures), refresh=False)
            time.sleep(_POLL_SECONDS)
    finally:
        for one in active.values():  # interrupted: checkpoints and finished records stay
            one.cancel(check=False)
        bar.close()
    if failures:
        raise SweepError(
            f"{len(failures)} of {len(waiting)} runs failed; the others are recorded, run again "
            "to retry.\n\n" + "\n\n".join(f"{name}:\n{text}" for name, text in failures.items())
        )


def _recorded(config: RunConfig, folder: Path) -> Record | None:
    path = folder / f"{config.id}.json"
    if not path.exists():
        return None
    try:
        return Record.read(path)
    except RecordError as error:
        logger.warning("%s The run is made again.", error)
        return None
