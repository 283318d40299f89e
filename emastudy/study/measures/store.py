"""Measurements: what was found when a trained network was asked for more than its score.

Floor: study (imports engine).

A measurement belongs to a run, has a name of ``measures.MEASURES`` and options, and holds rows of
numbers. It is kept as one JSON file beside the records, ``measurements/RUN.NAME-HASH.json``, so
that a page can be built without the network. The network is trained, or its checkpoint loaded, only
where the file is missing.
"""

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from emastudy.engine import RunConfig, Runtime, train
from emastudy.study.measures.measures import MEASURES, Row
from emastudy.study.runs import (
    RecordError,
    circumstances,
    complete,
    config_columns,
    hold,
    with_numbers,
    write_json,
)

SCHEMA = 1


@dataclass(frozen=True)
class Measurement:
    """The rows that one measure yielded for one run, with its options and circumstances.

    Attributes:
        config: The run.
        name: Key of ``MEASURES``.
        options: Those that differ from the measure's defaults.
        rows: See the measure's own docstring.
        circumstances: Machine, versions, commit and version of the numbers, as in records.
    """

    config: RunConfig
    name: str
    options: dict[str, Any]
    rows: list[Row]
    circumstances: dict[str, Any]

    def write(self, folder: Path) -> Path:
        """Write the file atomically into ``folder/measurements``."""
        values = {"schema": SCHEMA, **dataclasses.asdict(self), "config": self.config.to_dict()}
        return write_json(_path(folder, self.config, self.name, self.options), values)

    @classmethod
    def read(cls, path: Path) -> "Measurement":
        """Read a measurement and check that it is what its name says.

        Raises:
            RecordError: Truncated, of another schema, or of another run than its name.
        """
        fix = "delete it and run the notebook again to make it anew"
        try:
            values = json.loads(path.read_text())
            if values.pop("schema") != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            values["config"] = RunConfig.from_dict(values["config"])
            values["circumstances"] = with_numbers(values["circumstances"])
            found = cls(**values)
            name = _path(Path(), found.config, found.name, found.options).name
            if name != path.name:
                raise ValueError(f"by its content it should be named {name}")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"measurement {path} cannot be used ({error}); {fix}") from error
        return found


def measure(
    configs: Iterable[RunConfig],
    name: str,
    records: str | Path,
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
    *,
    executor: str = "local",
    **options: Any,
) -> pd.DataFrame:
    """Make sure that every run has been measured, and return the numbers as a tidy table.

    Args:
        configs: The runs; those without a checkpoint are trained.
        name: Key of ``MEASURES``.
        records: Folder of the runs' records.
        runtime: Where to compute.
        executor: As in ``sweep.run``.
        options: Of the measure.

    Returns:
        See :func:`load_measurements`.

    Raises:
        ValueError: Unknown measure, option or executor.
        SweepError: As in ``sweep.run``.
    """
    options = _sparse(name, options)
    configs = list(configs)

    def done(config: RunConfig) -> bool:
        return _path(Path(records), config, name, options).exists()

    job = partial(measure_one, name=name, options=options)
    complete(configs, done, job, Path(records), runtime, executor)
    paths = [_path(Path(records), c, name, options) for c in configs if done(c)]
    return to_frame(Measurement.read(path) for path in paths)


def measure_one(
    config: RunConfig,
    records: str | Path,
    runtime: Runtime,
    *,
    name: str,
    options: Mapping[str, Any],
) -> Path:
    """Measure one run, training it if there is no checkpoint, and write what was found."""
    with hold(config, Path(records), runtime):
        training = train(config, runtime)
    network = training.network.eval()
    network.set_output_stride(config.eval_output_stride)
    rows = MEASURES[name](network, config, runtime, **options)
    found = Measurement(config, name, dict(options), rows, circumstances(runtime.precision(config)))
    return found.write(Path(records))


def load_measurements(folder: str | Path, name: str) -> pd.DataFrame:
    """All measurements of one name in a folder of records as a tidy table.

    Returns:
        One row per row of a measurement: "id", the config's columns as in
        ``records.load_records``, and the measure's own ("at.…" for what was set, plain names for
        what was found). Empty where nothing was measured.
    """
    paths = sorted((Path(folder) / "measurements").glob(f"*.{name}-*.json"))
    return to_frame(Measurement.read(path) for path in paths)


def to_frame(measurements: Iterable[Measurement]) -> pd.DataFrame:
    """Measurements as a tidy table, see :func:`load_measurements`."""
    return pd.DataFrame(
        [
            {"id": found.config.id, **config_columns(found.config), **row}
            for found in measurements
            for row in found.rows
        ]
    )


def _sparse(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from the measure's defaults, as JSON has them."""
    if name not in MEASURES:
        raise ValueError(f"measure is {name!r}; there are {', '.join(MEASURES)}")
    known = {
        p.name: p.default
        for p in inspect.signature(MEASURES[name]).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"measure {name!r} has no option {', '.join(map(repr, unknown))}; it has "
            + ", ".join(known)
        )
    given, usual = json.loads(json.dumps([dict(options), known]))
    return {k: v for k, v in sorted(given.items()) if v != usual[k]}


def _path(folder: Path, config: RunConfig, name: str, options: Mapping[str, Any]) -> Path:
    text = json.dumps(options, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return folder / "measurements" / f"{config.id}.{name}-{digest}.json"
