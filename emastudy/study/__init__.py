"""What we learn: protocols, records, sweeps, published numbers, figures.

Imports all floors below. A notebook makes configs with ``protocols``, hands them to ``sweep.run``
and draws the DataFrame that comes back.
"""

from emastudy.study.measures import load_measurements, measure
from emastudy.study.runs import (
    STATES,
    Record,
    RecordError,
    SweepError,
    load_records,
    parse_executor,
    records_folder,
    run,
    run_one,
    runs_folder,
    survey,
)

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
