"""Making runs and keeping their results: records, folders, locks, executors, sweeps, audits."""

from emastudy.errors import RecordError, SweepError
from emastudy.study.runs.audit import TOLERANCE, audit
from emastudy.study.runs.folders import (
    benchmark_results,
    experiments_folder,
    recorded_folder,
    records_folder,
    runs_folder,
)
from emastudy.study.runs.locks import Status, is_locked, lock_run
from emastudy.study.runs.provenance import circumstances
from emastudy.study.runs.record import Record, config_columns, load_records, to_frame
from emastudy.study.runs.survey import STATES, State, survey
from emastudy.study.runs.sweep import complete, parse_executor, run, run_one

__all__ = [
    "STATES",
    "TOLERANCE",
    "Record",
    "RecordError",
    "State",
    "Status",
    "SweepError",
    "audit",
    "benchmark_results",
    "circumstances",
    "complete",
    "config_columns",
    "experiments_folder",
    "is_locked",
    "load_records",
    "lock_run",
    "parse_executor",
    "recorded_folder",
    "records_folder",
    "run",
    "run_one",
    "runs_folder",
    "survey",
    "to_frame",
]
