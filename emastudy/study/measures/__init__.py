"""What is asked of a trained network beyond its score, and where the answers are kept.

To add a measure, add a module here with one function under ``@register(NAME)``: all are loaded.
"""

from importlib import import_module
from pkgutil import iter_modules

from emastudy.study.measures.basis_maps import from_run_lengths
from emastudy.study.measures.store import Measurement, load_measurements, measure
from emastudy.study.measures.subject import MEASURES, Subject, evenly_spaced

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = [
    "MEASURES",
    "Measurement",
    "Subject",
    "evenly_spaced",
    "from_run_lengths",
    "load_measurements",
    "measure",
]
