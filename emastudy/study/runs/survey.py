"""How all runs stand: which are recorded, who works on one, which failed and why."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from emastudy.engine import NUMBERS_VERSION, RunConfig
from emastudy.errors import RecordError
from emastudy.study.runs.locks import Status, is_locked
from emastudy.study.runs.record import Record

State = Literal["finished", "outdated", "running", "interrupted", "failed", "damaged"]
#: What the states mean, and what to do about them.
STATES: dict[State, str] = {
    "finished": "recorded, with the numbers that this version makes",
    "outdated": "recorded before the numbers changed, see CHANGELOG.md; delete it and run again",
    "running": "a process works on it now",
    "interrupted": "stopped half-way; run again, it goes on from its checkpoint",
    "failed": "ended with an error; fix the cause and run again",
    "damaged": "its file cannot be trusted; delete it and run again",
}
_COLUMNS = "profile id state head options seed progress miou minutes commit note"
Row = dict[str, Any]


def survey(records: Path, runs: Path) -> pd.DataFrame:
    """How all runs stand: those recorded, and those that a process works or worked on.

    Args:
        records: Folder of the profiles' records, ``experiments/records``.

    Returns:
        One row a run and profile: "profile", "id", "state" (see :data:`STATES`), "head", "options"
        (those that tell the profile's runs apart), "seed", "progress" (iterations, done of all),
        "miou", "minutes" of training, "commit" and "note" (error, or who works on it).
    """
    rows = {(row["profile"], row["id"]): row for row in _recorded(records)}
    for row in _unfinished(records, runs):
        known = rows.get((row["profile"], row["id"]))
        if not known or known["state"] == "damaged" or row["state"] == "running":
            rows[row["profile"], row["id"]] = row
    frame = pd.DataFrame(rows.values(), columns=_COLUMNS.split())
    frame["options"] = frame.groupby("profile")["options"].transform(_distinguishing_options)
    return frame


def _recorded(records: Path) -> Iterator[Row]:
    for path in sorted(records.glob("*/*.json")):
        row = {"profile": path.parent.name, "id": path.stem, "options": {}}
        try:
            record = Record.read(path)
        except RecordError as error:
            yield {**row, "state": "damaged", "note": str(error)}
            continue
        total = record.config.iterations
        yield {
            **row,
            "state": "finished" if record.numbers == NUMBERS_VERSION else "outdated",
            **_config_summary(record.config),
            "progress": f"{total}/{total}",
            "miou": record.metrics["miou"],
            "minutes": record.seconds["train"] / 60,
            "commit": record.commit,
            "note": "",
        }


def _unfinished(records: Path, runs: Path) -> Iterator[Row]:
    """The runs with a status, those that are finished by now included."""
    for run_dir in sorted(path.parent for path in runs.glob("*/status.json")):
        status = Status.read(run_dir)
        if status is None:
            continue
        folder = Path(status.records)
        profile = folder.name if folder.parent == records.absolute() else str(folder)
        row = {"profile": profile, "id": run_dir.name, "options": {}}
        try:
            config = RunConfig.from_dict(status.config)
        except (TypeError, ValueError) as error:  # of another version of the package
            yield {**row, "state": "damaged", "note": f"{run_dir / 'status.json'}: {error}"}
            continue
        # Where the lock is free, a run that says it is running was killed before it could say so.
        free = status.state.replace("running", "interrupted")
        done = max((int(p.name[-6:]) for p in run_dir.glob("checkpoint-??????")), default=0)
        yield {
            **row,
            "state": "running" if is_locked(run_dir) else free,
            **_config_summary(config),
            "progress": f"{done}/{config.iterations}",
            "note": status.error or status.owner,
        }


def _config_summary(config: RunConfig) -> Row:
    """Head, seed, and what else differs from a config's defaults, as one flat table."""
    options: Row = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name.endswith("_options") or field.name == "sources":
            options |= value
        elif field.name not in ("head", "seed", "iterations") and value != field.default:
            options[field.name] = value
    return {"head": config.head, "seed": config.seed, "options": options}


def _distinguishing_options(options: pd.Series) -> pd.Series:
    """Options as text, without those that all runs of the group share."""
    texts = [{f"{k}={v}" for k, v in table.items()} for table in options]
    common = set.intersection(*texts)
    return pd.Series([" ".join(sorted(text - common)) for text in texts], index=options.index)
