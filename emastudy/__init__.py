"""emastudy: Expectation-Maximization Attention, derived, re-run and taken apart.

The names most users need:

* ``EMAU``: the attention unit, an ``nn.Module`` that drops into any network.
* ``em``: the EM iteration as pure functions of tensors (Eqs 11-14 of the paper).
* ``networks``, ``datasets``: ``networks.build(name, ...)``, ``datasets.load(name, ...)``.
* ``engine``, ``study``: train and score a ``RunConfig``; recipes, records and sweeps.

Importing ``emastudy`` loads torch and nothing else that is heavy; the rest loads when it is first
used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from emastudy import em

if TYPE_CHECKING:
    from emastudy.networks.emau import EMAU

__version__ = version("emastudy")
__all__ = ["EMAU", "__version__", "datasets", "em", "engine", "networks", "study"]


def __getattr__(name: str) -> Any:
    if name == "EMAU":
        return import_module("emastudy.networks.emau").EMAU
    if name in ("datasets", "engine", "networks", "study"):
        return import_module(f"emastudy.{name}")
    known = ", ".join(__all__)
    raise AttributeError(f"module 'emastudy' has no attribute {name!r}; it has {known}")
