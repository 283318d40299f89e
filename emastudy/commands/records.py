"""``emastudy records``: the state of runs."""

from pathlib import Path

import pandas as pd
import tyro

from emastudy.errors import InputError
from emastudy.study import STATES, records_folder, runs_folder, survey
from emastudy.study.runs import State


def command(
    profile: tyro.conf.Positional[str] = "",
    state: tuple[State, ...] = (),
    verbose: bool = False,
    runs_dir: str = "",
) -> None:
    """Show the state of every profile's runs: finished, outdated, running, interrupted, failed.

    For example: emastudy records scenes --state failed

    Args:
        profile: Folder of experiments/records; default all.
        state: List the runs that are in one of these states.
        verbose: List all runs.
        runs_dir: Folder of checkpoints and logs; default runs of this checkout.
    """
    runs = survey(records_folder(""), Path(runs_dir) if runs_dir else runs_folder())
    runs = runs[runs["profile"] == profile] if profile else runs
    if runs.empty:
        raise InputError(f"no run is known in {records_folder(profile)}; train one: make study")
    counts = pd.crosstab(runs["profile"], runs["state"])
    print(counts[[s for s in STATES if s in counts]].rename_axis(columns="").to_string())
    print("\n" + "\n".join(f"{s}: {what}" for s, what in STATES.items() if s in counts))
    for name in STATES:
        listed = runs[runs["state"] == name].drop(columns="state")
        if len(listed) and (verbose or name in state):
            shown = listed.dropna(axis="columns", how="all").round(2).fillna("")
            print(f"\n{name}\n{shown.to_string(index=False)}")
