"""Do the records hold? Recorded runs trained anew, from nothing, and compared with their records.

What an audit yields is a record like any other, kept in ``records/PROFILE/audit/ID.json``; only the
comparison is computed, whenever it is looked at.
"""

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from emastudy.engine import NUMBERS_VERSION, RunConfig, Runtime
from emastudy.study.runs.record import Record, load_records
from emastudy.study.runs.sweep import run

#: What a run made again may differ by and still hold: points of mIoU, and the mean distance of the
#: two loss curves in nats. Another processor rounds otherwise, and training lets that grow; another
#: seed changes some 0.7 points on scenes, more than twice as much.
TOLERANCE = {"miou": 0.3, "loss": 0.02}


def audit(
    folder: Path,
    runtime: Runtime,
    *,
    sample: int = 0,
    seed: int = 0,
    ids: Iterable[str] = (),
    executor: str = "local",
) -> pd.DataFrame:
    """Train recorded runs anew and compare them with their records.

    Args:
        folder: The profile's records.
        runtime: Where the runs happen. A run's folder in ``runs_dir`` is removed once its audit is
            recorded, so that the next audit trains anew.
        sample: How many runs, drawn at random from those that no audit covers yet, evenly over
            heads, gradient regimes and commits.
        seed: Of the draw.
        ids: Runs that are audited in any case, again where they were before.
        executor: As in ``sweep.run``.

    Returns:
        See :func:`compare`, for all audits there are.

    Raises:
        ValueError: No record has one of the ids, or there is none at all.
    """
    records = load_records(folder)
    if records.empty:
        raise ValueError(f"{folder} holds no records to audit")
    unknown = [id for id in ids if id not in records.index]
    if unknown:
        raise ValueError(f"{folder} holds no record of {', '.join(unknown)}")
    audits = folder / "audit"
    for id in ids:
        (audits / f"{id}.json").unlink(missing_ok=True)
    chosen = [*ids, *draw(records, known=compare(folder)["id"], count=sample, seed=seed)]
    configs: list[RunConfig] = [records.loc[id, "record"].config for id in chosen]  # type: ignore[union-attr]
    if configs:
        run(configs, audits, replace(runtime, keep_checkpoints=1), executor=executor)
    for config in configs:
        shutil.rmtree(runtime.run_dir(config), ignore_errors=True)
    return compare(folder)


def draw(records: pd.DataFrame, *, known: Iterable[str], count: int, seed: int) -> list[str]:
    """Ids of runs drawn at random, in turn from every kind of run: head, gradient regime, commit.

    Args:
        records: See ``records.load_records``.
        known: Ids that are not drawn.
        count: How many; fewer if there are no more.
        seed: Of the draw.
    """
    left = records[~records.index.isin(list(known))].sample(frac=1, random_state=seed)
    kinds = [
        (record.config.head, record.config.head_options.get("gradient"), record.commit)
        for record in left["record"]
    ]
    turn = left.groupby(pd.Series(kinds, left.index)).cumcount()
    return list(turn.sort_values(kind="stable").index[:count])


def compare(folder: Path) -> pd.DataFrame:
    """Every audited run beside its record.

    Args:
        folder: The profile's records.

    Returns:
        One row an audit: "id", "head", "options", "seed", "commit" (of the record), "processor" and
        "torch" (of the record, and of the audit after an arrow where they differ), "recorded" and
        "again" (mIoU, percent), "difference" (points), "loss" (mean distance of the loss curves,
        nats) and "holds" (both within :data:`TOLERANCE`).
    """
    columns = ["id", "head", "options", "seed", "commit", "processor", "torch"]
    columns += ["recorded", "again", "difference", "loss", "holds"]
    rows = []
    for path in sorted((folder / "audit").glob("*.json")):
        again, record = Record.read(path), Record.read(folder / path.name)
        if again.numbers != NUMBERS_VERSION:
            continue
        difference = again.metrics["miou"] - record.metrics["miou"]
        loss = _distance(record.curves["loss"], again.curves["loss"])
        holds = abs(difference) <= TOLERANCE["miou"] and loss <= TOLERANCE["loss"]
        rows.append(
            {
                "id": record.config.id,
                "head": record.config.head,
                "options": " ".join(f"{k}={v}" for k, v in record.config.head_options.items()),
                "seed": record.config.seed,
                "commit": record.commit,
                "processor": _both(record.machine["processor"], again.machine["processor"]),
                "torch": _both(record.versions["torch"], again.versions["torch"]),
                "recorded": record.metrics["miou"],
                "again": again.metrics["miou"],
                "difference": difference,
                "loss": loss,
                "holds": holds,
            }
        )
    return pd.DataFrame(rows, columns=columns)


def _distance(one: list[tuple[int, float]], other: list[tuple[int, float]]) -> float:
    """Mean distance of two curves; infinite where they have not the same iterations."""
    if [iteration for iteration, _ in one] != [iteration for iteration, _ in other]:
        return float("inf")
    return float(np.mean([abs(a - b) for (_, a), (_, b) in zip(one, other, strict=True)]))


def _both(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"
