"""Making runs and keeping their results: records, folders, locks, executors, sweeps, audits."""

from emastudy.study.runs.audit import (
    TOLERANCE,
    audit,
    compare,
    draw,
)
from emastudy.study.runs.executors import (
    SweepError,
    parse_executor,
)
from emastudy.study.runs.record import (
    Record,
    RecordError,
    circumstances,
    config_columns,
    load_records,
    records_folder,
    runs_folder,
    to_frame,
    with_numbers,
    write_json,
)
from emastudy.study.runs.status import (
    STATES,
    State,
    Status,
    hold,
    is_held,
    survey,
)
from emastudy.study.runs.sweep import (
    complete,
    run,
    run_one,
)

__all__ = [
    "STATES",
    "TOLERANCE",
    "Record",
    "RecordError",
    "State",
    "Status",
    "SweepError",
    "audit",
    "circumstances",
    "compare",
    "complete",
    "config_columns",
    "draw",
    "hold",
    "is_held",
    "load_records",
    "parse_executor",
    "records_folder",
    "run",
    "run_one",
    "runs_folder",
    "survey",
    "to_frame",
    "with_numbers",
    "write_json",
]
