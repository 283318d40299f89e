"""Recorded runs that were trained anew, beside their records: which kinds, how far off."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from emastudy.study.recipes import label_runs
from emastudy.study.runs import load_records
from emastudy.study.runs.audit import compare


def load(folders: Mapping[str, Path]) -> pd.DataFrame:
    """``audit.compare`` of several profiles, with "profile" and "kind": head and EMA's regime."""
    parts = [compare(folder).assign(profile=profile) for profile, folder in folders.items()]
    audits = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    regimes = audits["options"].str.extract(r"\bgradient=(\w+)", expand=False)
    regimes = regimes.where(audits["head"] != "ema", regimes.fillna("detached"))
    return audits.assign(kind=label_runs(audits.assign(**{"head.gradient": regimes})))


def summary(folders: Mapping[str, Path], audits: pd.DataFrame) -> pd.DataFrame:
    """How much was audited, and how far off it is, one row a profile.

    Differences, and the standard deviation over seeds (its median over the settings with several
    seeds), are in points of mIoU; distances of losses in nats.
    """
    rows = {}
    for profile, folder in folders.items():
        mine = audits[audits["profile"] == profile]
        records = load_records(folder)
        rows[profile] = {
            "records": len(records),
            "trained anew": len(mine),
            "hold": int(mine["holds"].sum()),
            "largest difference": mine["difference"].abs().max(),
            "standard deviation over seeds": _spread(records),
            "largest distance of losses": mine["loss"].max(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("profile")


def machines(audits: pd.DataFrame) -> pd.DataFrame:
    """Where records and audits were made; an arrow leads from one to the other where they differ.

    "commits" says of how many commits the records are.
    """
    counts = {"trained anew": ("id", "count"), "hold": ("holds", "sum")}
    by_place = audits.groupby(["profile", "processor", "torch"])
    return by_place.agg(**counts, commits=("commit", "nunique"))


def _spread(records: pd.DataFrame) -> float:
    if records.empty:
        return float("nan")
    settings = [replace(record.config, seed=0).id for record in records["record"]]
    return float(records["miou"].groupby(settings).std().median())
