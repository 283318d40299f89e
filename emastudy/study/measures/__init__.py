"""What is asked of a trained network beyond its score, and where the answers are kept."""

from emastudy.study.measures.measures import (
    MEASURES,
    evenly_spaced,
    from_run_lengths,
    mutual_information,
    run_lengths,
)
from emastudy.study.measures.store import (
    Measurement,
    load_measurements,
    measure,
    measure_one,
)

__all__ = [
    "MEASURES",
    "Measurement",
    "evenly_spaced",
    "from_run_lengths",
    "load_measurements",
    "measure",
    "measure_one",
    "mutual_information",
    "run_lengths",
]
