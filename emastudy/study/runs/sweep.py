"""Sweeps: many runs, each trained at most once.

Runs whose record exists are loaded; the rest are trained in isolated processes, on this machine or
on Slurm, see ``executors``.
"""

import logging
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from emastudy import datasets, options
from emastudy.datasets import Fingerprint, require_same
from emastudy.engine import RunConfig, Runtime, score, train
from emastudy.engine.build import build_network
from emastudy.engine.scoring import metrics
from emastudy.engine.training.signals import translate_errors
from emastudy.errors import InputError, RecordError, SweepError
from emastudy.files import check_writable
from emastudy.study.runs.locks import lock_run, on_main_process
from emastudy.study.runs.provenance import circumstances, splits_seen
from emastudy.study.runs.record import Record, to_frame

logger = logging.getLogger(__name__)

_OTHER_RECORDS = "choose another folder of records"
Kind = Literal["local", "slurm", "none"]


def run_one(config: RunConfig, records: str | Path, runtime: Runtime = Runtime()) -> Record:  # noqa: B008
    """Train (or go on training) one run, score it and write its record.

    Where another process works on the same run, it waits for that one's record. The processes of
    one distributed run (``accelerate launch``, ``torchrun``) all call this; the main one writes.

    Returns:
        The record; it is loaded, and nothing trained, where it exists.

    Raises:
        WriteError: The folder of records, or the run's own, cannot be written.
        RecordError: The disk was full when the record was written; the trained network is kept.
        InputError: The recorded run, or its checkpoint, saw other data than lie in ``data_root``.
    """
    folder = Path(records)
    if known := on_main_process(lambda: _recorded(config, folder), runtime):
        require_same_data([known], folder, runtime)
        return known
    on_main_process(lambda: check_writable(folder, _OTHER_RECORDS), runtime)
    with lock_run(config, folder, runtime):
        # The process that was waited for may have written the record already.
        known = on_main_process(lambda: _recorded(config, folder), runtime)
        return known or _make(config, folder, runtime)


def run(
    configs: Sequence[RunConfig],
    records: str | Path,
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
    *,
    executor: str = "local",
) -> pd.DataFrame:
    """Make sure that every run has its record, and return them as a tidy table.

    Each run is a process of its own with a log of its own, ``runs/ID/log``. A run that fails does
    not stop the others; one whose loss becomes NaN or infinite is reported, and in no table.
    Ctrl-C, or SIGTERM, stops those at work, which keep a checkpoint, and leaves all that is
    recorded; the same call goes on. What another sweep works on is waited for, not run twice.

    Args:
        configs: The runs; the same one twice counts once.
        executor: "local", "slurm", or "none": train nothing, return what is recorded. Local runs
            have a GPU each where there are any, else a share of the cores: ``runtime.threads``, or
            one, by which for small networks many runs side by side are faster than many threads
            for one. ``"local cores=4 gpus=[0,1]"`` leaves the rest of the machine to others. What
            Slurm shall give to a run follows its name, as submitit calls it:
            ``"slurm partition=gpu gpus_per_node=1 cpus_per_task=8 mem_gb=32 timeout_min=600"``.
            A run whose time is up, or that is preempted, is requeued and goes on from its
            checkpoint.

    Returns:
        One row a run, in the order of ``configs``, see :func:`load_records`.

    Raises:
        InputError: Unknown executor or parameter of it; or a recorded run saw other data than lie
            in ``data_root``.
        SweepError: Runs failed for another reason than a loss that is not finite: all others have
            finished and are recorded, run again to retry. Or not one of the runs is recorded.
        WriteError: The folder of records, or that of runs, cannot be written.
    """
    folder = Path(records)
    configs = list({config.id: config for config in configs}.values())

    def known() -> list[Record]:
        return [record for config in configs if (record := _recorded(config, folder))]

    require_same_data(known(), folder, runtime)
    complete(configs, lambda c: bool(_recorded(c, folder)), run_one, folder, runtime, executor)
    recorded = known()
    if configs and not recorded:
        raise SweepError(f"all {len(configs)} runs diverged; lower the learning rate")
    return to_frame(recorded)


def require_same_data(records: Sequence[Record], folder: Path, runtime: Runtime) -> None:
    """Refuse records of other data than those in ``data_root``, where both are known.

    Raises:
        InputError: A run saw other data; the message says in what.
        MissingFileError: ``data_root`` lacks files that a split names, which are other data too.
    """
    seen: dict[str, dict[str, Any]] = {}
    kept = [record for record in records if record.data and runtime.data_root]
    if kept and not Path(runtime.data_root).is_dir():
        logger.warning(
            "there is no data_root %s: what is recorded in %s was not compared with it",
            runtime.data_root, folder,
        )  # fmt: skip
        return
    for record in kept:
        config = record.config
        key = repr((config.dataset, config.dataset_options, list(record.data)))
        seen[key] = seen.get(key) or splits_seen(config, runtime)
        fix = f"keep records of other data in another folder than {folder}"
        for split, now in seen[key].items():
            require_same(Fingerprint.from_dict(now), record.data.get(split, {}), config.id, fix)


def complete(
    configs: Sequence[RunConfig],
    done: Callable[[RunConfig], bool],
    job: Callable[[RunConfig, Path, Runtime], object],
    folder: Path,
    runtime: Runtime,
    executor: str,
) -> list[str]:
    """Do one job for every config that is not done yet; executors and errors as :func:`run`.

    Args:
        job: Called in a process of its own as ``job(config, folder, runtime)``.

    Returns:
        Ids of the runs that diverged, and so have no result.
    """
    kind, parameters = parse_executor(executor)
    waiting = [config for config in configs if not done(config)]
    if not waiting:
        return []
    if kind != "none":
        check_writable(folder, _OTHER_RECORDS)
        _try_own_parts(waiting)
        try:
            from emastudy.study.runs.executors import Local
            from emastudy.study.runs.queue import Queue
            from emastudy.study.runs.slurm import Slurm
        except ModuleNotFoundError as error:
            raise SweepError(
                f"executor={kind} runs jobs through submitit, which is not installed ({error}); "
                "pip install 'emastudy[slurm]', or train run by run (run_one, emastudy train)"
            ) from error
        place = Slurm(runtime, parameters) if kind == "slurm" else Local(runtime, parameters)
        return Queue(waiting, done, job, folder, place).work()
    if len(waiting) == len(configs):
        raise SweepError(
            f"none of the {len(configs)} runs is recorded in {folder}; run the notebook with "
            "executor=local (make study), or choose a profile with records (PROFILE=scenes)"
        )
    logger.warning("%d of %d runs are not recorded in %s", len(waiting), len(configs), folder)
    return []


def parse_executor(executor: str) -> tuple[Kind, dict[str, Any]]:
    """Name and parameters of an executor: "slurm partition=gpu" is "slurm", {"partition": "gpu"}.

    Raises:
        InputError: Unknown name, or not of the form NAME=VALUE.
    """
    kind, *pairs = shlex.split(executor) or [""]
    if kind not in get_args(Kind):
        raise InputError(f"executor is {kind!r}; expected one of {', '.join(get_args(Kind))}")
    if pairs and kind == "none":
        raise InputError(f"executor is {executor!r}; none takes no parameters")
    return kind, options.parse(pairs)  # type: ignore[return-value]


def _try_own_parts(configs: Sequence[RunConfig]) -> None:
    """Build each network that has parts of one's own once: what is wrong shows before any run."""
    networks = {
        (c.head, str(c.head_options), c.backbone, str(c.backbone_options), c.dataset): c
        for c in configs
        if c.sources
    }
    for config in networks.values():
        build_network(config, num_classes=2)
        datasets.find(config.dataset)


def _make(config: RunConfig, folder: Path, runtime: Runtime) -> Record:
    training = train(config, runtime)
    began = time.monotonic()
    with translate_errors(config, runtime):
        scores = score(training.network, config, runtime)
    record = Record(
        config=config,
        metrics=scores.means,
        iou=scores.iou,
        confusion=scores.confusion.tolist(),
        curves=training.curves,
        seconds={"train": training.seconds, "evaluate": time.monotonic() - began},
        parameters=sum(p.numel() for p in training.network.parameters()),
        **circumstances(**asdict(runtime.choose_precision(config))),
        data=splits_seen(config, runtime),
        by_image="" if scores.by_image is None else metrics.pack(scores.by_image),
    )
    on_main_process(lambda: record.write(folder), runtime)
    return record


def _recorded(config: RunConfig, folder: Path) -> Record | None:
    path = folder / f"{config.id}.json"
    if not path.exists():
        return None
    try:
        return Record.read(path)
    except RecordError as error:
        logger.warning("%s The run is made again.", error)
        return None
