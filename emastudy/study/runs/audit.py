"""Do the records hold? Recorded runs trained anew, from nothing, and compared with their records.

What an audit yields is a record like any other, kept in ``records/PROFILE/audit/ID.json``; only the
comparison is computed, whenever it is looked at.
"""

import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from emastudy import options
from emastudy.engine import NUMBERS_VERSION, RunConfig, Runtime, train
from emastudy.errors import InputError, MissingFileError
from emastudy.options import NonNegativeInt, Seed
from emastudy.study.runs.record import Record, load_records
from emastudy.study.runs.sweep import complete, run_one

logger = logging.getLogger(__name__)

#: What a run made again may differ by and still hold: points of mIoU, and the mean distance of the
#: two loss curves in nats. Another processor rounds otherwise, and training lets that grow; for
#: the median method of every profile another seed changes both by at least 1.5 times as much.
TOLERANCE = {"miou": 0.3, "loss": 0.02}


@options.checked
def audit(
    folder: Path,
    runtime: Runtime,
    *,
    sample: NonNegativeInt = 0,
    seed: Seed = 0,
    ids: Sequence[str] = (),
    executor: str = "local",
) -> pd.DataFrame:
    """Train recorded runs anew and compare them with their records.

    Args:
        runtime: Where the runs happen. A run's folder in ``runs_dir`` is removed at the end of its
            audit, so that the next one trains anew; interrupted, the same call goes on.
        sample: How many runs, drawn at random from those that no audit covers yet, evenly over
            heads, gradient regimes and commits.
        ids: Runs that are audited in any case, again where they were before.

    Returns:
        See :func:`compare`: all audits that there are, and the runs that diverged now, which do
        not hold and may be drawn again.

    Raises:
        InputError: No current record has one of the ids, or there is none at all; a negative
            sample or seed.
        SweepError: As in ``sweep.run``.
    """
    records = load_records(folder)
    current = records[[record.numbers == NUMBERS_VERSION for record in records.get("record", ())]]
    unknown = [name for name in ids if name not in current.index]
    if current.empty or unknown:
        which = f"of {', '.join(unknown)}" if unknown else "to audit"
        raise InputError(f"{folder} holds no record {which} with the numbers of this version")
    known = [*compare(folder)["id"], *ids]
    names = [*dict.fromkeys(ids), *draw(current, known=known, count=sample, seed=seed)]
    chosen, audits = current.loc[names], folder / "audit"
    configs = [record.config for record in chosen["record"]]
    for config in configs:
        path = audits / f"{config.id}.json"
        if path.exists():  # by request, or of an earlier version of the numbers
            path.unlink()
            shutil.rmtree(runtime.run_dir(config), ignore_errors=True)

    def done(config: RunConfig) -> bool:
        return (audits / f"{config.id}.json").exists()

    if configs:
        logger.info(
            f"{len(configs)} runs are trained anew; {chosen['seconds'].sum() / 60:.1f} minutes of "
            "training by their records, if one after another on the same machine"
        )
    diverged = complete(configs, done, _train_anew, audits, runtime, executor)
    for config in configs:
        if config.id in diverged:
            shutil.rmtree(runtime.run_dir(config), ignore_errors=True)
    return compare(folder, diverged)


def draw(records: pd.DataFrame, *, known: Iterable[str], count: int, seed: int) -> list[str]:
    """Ids of runs drawn at random, in turn from every kind: head, gradient regime, commit."""
    shuffled = records.sample(frac=1, random_state=seed)
    kinds = [
        (record.config.head, record.config.head_options.get("gradient"), record.commit)
        for record in shuffled["record"]
    ]
    turns = shuffled.groupby(pd.Series(kinds, shuffled.index)).cumcount()
    # The order does not depend on what is known, so that an interrupted audit goes on.
    order = turns.sort_values(kind="stable").index.drop(list(known), errors="ignore")
    return list(order[:count])


def compare(folder: Path, diverged: Iterable[str] = ()) -> pd.DataFrame:
    """Every audited run beside its record.

    Args:
        diverged: Ids of runs that were audited and have no result.

    Returns:
        One row an audit: "id", "head", "options", "seed", "commit" (of the record), "processor" and
        "torch" (of the record, and of the audit after an arrow where they differ), "recorded" and
        "again" (mIoU, percent), "difference" (points), "loss" (mean distance of the loss curves,
        nats) and "holds" (both within :data:`TOLERANCE`). NaN where the audit diverged.
    """
    columns = ["id", "head", "options", "seed", "commit", "processor", "torch"]
    columns += ["recorded", "again", "difference", "loss", "holds"]
    audits = {path.stem: Record.read(path) for path in sorted((folder / "audit").glob("*.json"))}
    current = {name: again for name, again in audits.items() if again.numbers == NUMBERS_VERSION}
    rows = [
        _row(Record.read(folder / f"{name}.json"), again)
        for name, again in (current | dict.fromkeys(diverged)).items()
    ]
    return pd.DataFrame(rows, columns=columns)


def _row(record: Record, again: Record | None) -> dict[str, object]:
    config = record.config
    row = {
        "id": config.id,
        "head": config.head,
        "options": " ".join(f"{k}={v}" for k, v in config.head_options.items()),
        "seed": config.seed,
        "commit": record.commit,
        "processor": record.machine["processor"],
        "torch": record.versions["torch"],
        "recorded": record.metrics["miou"],
        "holds": False,
    }
    if again is None:
        return row
    difference = again.metrics["miou"] - record.metrics["miou"]
    loss = pd.Series(dict(record.curves["loss"])) - pd.Series(dict(again.curves["loss"]))
    distance = float(loss.abs().mean(skipna=False))  # NaN where their iterations differ
    return {
        **row,
        "processor": _change(record.machine["processor"], again.machine["processor"]),
        "torch": _change(record.versions["torch"], again.versions["torch"]),
        "again": again.metrics["miou"],
        "difference": difference,
        "loss": distance,
        "holds": abs(difference) <= TOLERANCE["miou"] and distance <= TOLERANCE["loss"],
    }


def _train_anew(config: RunConfig, folder: Path, runtime: Runtime) -> None:
    place = runtime
    if config.start_from:
        # Apart from other audits, of which one may be of the run that this one starts from.
        place = replace(runtime, runs_dir=str(runtime.run_dir(config)))
        _train_before(config, folder.parent, place)
    run_one(config, folder, place)
    shutil.rmtree(runtime.run_dir(config), ignore_errors=True)


def _train_before(config: RunConfig, records: Path, runtime: Runtime) -> None:
    """Train the run that one starts from, and those before it."""
    path = records / f"{config.start_from}.json"
    if not path.is_file():
        raise MissingFileError(
            f"run {config.id} starts from {config.start_from}, which has no record {path}: it "
            "cannot be trained anew"
        )
    before = Record.read(path).config
    if before.start_from:
        _train_before(before, records, runtime)
    train(before, runtime)


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"
