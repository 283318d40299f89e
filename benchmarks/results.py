"""The tables of ``make bench`` as data: ``benchmarks/results/NAME.json``, with their machine."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emastudy.files import write_text
from emastudy.study.runs.provenance import circumstances

FOLDER = Path(__file__).with_name("results")


def keep(name: str, rows: Sequence[Mapping[str, Any]], *, folder: Path = FOLDER) -> Path:
    """Write a table; one of that name from another day is replaced.

    Beside the rows stand the machine, the versions and the commit as in a record, and "load", the
    mean number of processes that computed or waited over the last one and fifteen minutes: on a
    quiet machine little more than the benchmark itself.

    Args:
        name: Of the benchmark.
        rows: One a measurement; times in seconds.
        folder: Where it is written.
    """
    load = dict(zip(("1 min", "15 min"), os.getloadavg()[::2], strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    kept = {**circumstances("float32"), "load": load, "rows": [dict(row) for row in rows]}
    write_text(path, json.dumps(kept, indent=1) + "\n")
    return path
