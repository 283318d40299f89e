"""Records: what is kept of a finished run. One JSON file a run, named by the run's id."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from jaxtyping import Int
from torch import Tensor

from emastudy import networks
from emastudy.engine import RunConfig
from emastudy.engine.scoring import metrics
from emastudy.errors import RecordError
from emastudy.files import write_text
from emastudy.study.runs.provenance import with_numbers

_SCHEMA = 1
T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """Config, results and circumstances of one finished run."""

    config: RunConfig
    #: Means by name, percent: "miou", "pixel_accuracy", and since they exist "mean_accuracy" and
    #: "frequency_weighted_iou".
    metrics: dict[str, float]
    #: IoU per class, 0-1; None for a class neither present nor predicted.
    iou: dict[str, float | None]
    confusion: list[list[int]]  #: Pixel counts, [true class][predicted class].
    curves: dict[str, list[tuple[int, float]]]
    seconds: dict[str, float]  #: "train" and "evaluate", wall clock.
    parameters: int
    machine: dict[str, Any]  #: Processor, threads, accelerator, precision, operating system.
    versions: dict[str, str]  #: Versions of Python and the packages that make the numbers.
    #: Git commit of the source, "+" behind it if files differed; "" outside a checkout.
    commit: str
    numbers: int
    created: str
    #: Split → fingerprint of the files that the run saw; empty for data that are drawn, and in
    #: records from before it was kept.
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What every image has of ``confusion``, see ``metrics.pack``; "" in records from before.
    by_image: str = ""

    @property
    def matrices(self) -> Int[Tensor, "m c c"] | None:
        """The confusion matrix of every image, pixel counts; None where they were not kept."""
        classes = len(self.confusion)
        return metrics.matrices(metrics.unpack(self.by_image), classes) if self.by_image else None

    def write(self, folder: Path) -> Path:
        """Write ``folder/ID.json``: it is whole or it is not there.

        Raises:
            RecordError: The disk is full or read-only; a record from before stays as it was.
        """
        return write_json(folder / f"{self.config.id}.json", {"id": self.config.id, **vars(self)})

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Read a record and check that it is what its name says.

        Raises:
            RecordError: Truncated, of another schema, or of another run than its name.
        """

        def make(values: dict[str, Any]) -> Record:
            names = values.pop("id", None), values["config"].id, path.stem
            if len(set(names)) > 1:
                raise ValueError(
                    "it says it is run {}, its config makes it {}, and it is named {}; all three "
                    "names must agree".format(*names)
                )
            curves = values["curves"].items()
            values["curves"] = {k: [(int(i), float(v)) for i, v in c] for k, c in curves}
            return cls(**with_numbers(values))

        return read_json(path, "record", make)


def load_records(folder: str | Path) -> pd.DataFrame:
    """All records of a folder as a tidy table, one row a run.

    Returns:
        Index "id"; the config's fields (options as ``head.num_iterations``, ``dataset.noise``, …),
        "miou", "pixel_accuracy", "seconds", and "record", the :class:`Record` itself.
    """
    return to_frame(Record.read(path) for path in sorted(Path(folder).glob("*.json")))


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Records as a tidy table, see :func:`load_records`."""
    rows = [
        {
            "id": record.config.id,
            **config_columns(record.config),
            **record.metrics,
            "seconds": record.seconds["train"],
            "record": record,
        }
        for record in records
    ]
    return pd.DataFrame(rows).set_index("id") if rows else pd.DataFrame()


def config_columns(config: RunConfig) -> dict[str, Any]:
    """A config as columns of a table; options as ``head.num_iterations``, ``dataset.noise``, …"""
    values = config.to_dict()
    # The defaults of a unit of one's own are known while its file is as it was.
    usual = networks.head_defaults(config.head) if config.has_source(config.head) else {}
    tables = {
        "head": usual | values.pop("head_options"),
        "dataset": values.pop("dataset_options"),
        "source": values.pop("sources"),
    }
    return values | {f"{kind}.{k}": v for kind, table in tables.items() for k, v in table.items()}


def write_json(path: Path, values: Mapping[str, Any]) -> Path:
    """Write a result, with its ``RunConfig`` under "config": it is whole or it is not there.

    Raises:
        RecordError: The disk is full or read-only; a file from before stays as it was.
        ValueError: A number that JSON does not have (NaN, infinity).
    """
    values = {"schema": _SCHEMA, **values, "config": values["config"].to_dict()}
    text = json.dumps(values, indent=1, allow_nan=False)
    # Lists of plain numbers on one line: a point of a curve a line, not a number a line.
    text = re.sub(r"\[\s+([-\d.eE+,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    try:
        write_text(path, text + "\n")
    except OSError as error:
        raise RecordError(
            f"{path} cannot be written ({error}). Free space there or make the folder writable, "
            "then run again: the trained network is kept, nothing is trained twice"
        ) from error
    return path


def read_json(path: Path, kind: str, make: Callable[[dict[str, Any]], T]) -> T:
    """Read a result: ``make`` makes it of the file's values, and checks that it is what it should.

    Raises:
        RecordError: Truncated, of another schema, with wrong fields, or of another run than its
            name.
    """
    fix = "delete it and run the notebook again to make it anew"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordError(f"{kind} {path} is not JSON ({error}): truncated? {fix}") from error
    if not isinstance(values, dict) or values.pop("schema", None) != _SCHEMA:
        raise RecordError(f"{kind} {path} does not use schema {_SCHEMA}; {fix}")
    try:
        return make({**values, "config": RunConfig.from_dict(values["config"])})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{kind} {path} has wrong fields ({error}); {fix}") from error
