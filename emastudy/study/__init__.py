"""What we learn: protocols, records, sweeps, published numbers, figures.

Imports all floors below. A notebook makes configs with ``protocols``, hands them to ``sweep.run``
and draws the DataFrame that comes back.
"""

from emastudy.study.records import Record, RecordError, load_records
from emastudy.study.sweep import SweepError, run, run_one

__all__ = ["Record", "RecordError", "SweepError", "load_records", "run", "run_one"]
