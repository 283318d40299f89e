"""What we learn: protocols, records, sweeps, published numbers, figures.

Imports all floors below. A notebook makes configs with ``protocols``, hands them to ``sweep.run``
and draws the DataFrame that comes back.
"""

from emastudy.study.measurements import load_measurements, measure
from emastudy.study.pools import SweepError, parse_executor
from emastudy.study.records import (
    Record,
    RecordError,
    load_records,
    records_folder,
    runs_folder,
)
from emastudy.study.status import STATES, survey
from emastudy.study.sweep import run, run_one

__all__ = [
    "STATES",
    "Record",
    "RecordError",
    "SweepError",
    "load_measurements",
    "load_records",
    "measure",
    "parse_executor",
    "records_folder",
    "run",
    "run_one",
    "runs_folder",
    "survey",
]
