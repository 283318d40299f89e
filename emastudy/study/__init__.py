"""What we learn: recipes, records, sweeps, measures, tables, claims, figures, reports.

A notebook makes configs with ``recipes``, hands them to ``run`` and draws the DataFrame that comes
back.
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
