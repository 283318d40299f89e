"""Measurements: what was found when a trained network was asked for more than its score.

A measurement belongs to a run, has a name of ``MEASURES`` and options, and holds rows of numbers.
It is kept as one JSON file beside the records, ``measurements/RUN.NAME-HASH.json``, so that a page
can be built without the network. The network is trained, or its checkpoint loaded, only where the
file is missing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from emastudy import options as function_options
from emastudy.engine import RunConfig, Runtime, train
from emastudy.engine.training.signals import translate_errors
from emastudy.errors import InputError
from emastudy.study.measures.subject import MEASURES, Row, Subject
from emastudy.study.runs import circumstances, complete, config_columns, lock_run
from emastudy.study.runs.provenance import with_numbers
from emastudy.study.runs.record import read_json, write_json


@dataclass(frozen=True)
class Measurement:
    """The rows that one measure yielded for one run, with its options and circumstances."""

    config: RunConfig
    name: str  #: Key of ``MEASURES``.
    options: dict[str, Any]  #: Those that differ from the measure's defaults.
    rows: list[Row]
    #: Machine, versions, commit and version of the numbers, as in records.
    circumstances: dict[str, Any]

    def write(self, folder: Path) -> Path:
        """Write the file into ``folder/measurements``: it is whole or it is not there.

        Raises:
            RecordError: The disk is full or read-only.
        """
        return write_json(_path(folder, self.config, self.name, self.options), vars(self))

    @classmethod
    def read(cls, path: Path) -> "Measurement":
        """Read a measurement and check that it is what its name says.

        Raises:
            RecordError: Truncated, of another schema, or of another run than its name.
        """

        def make(values: dict[str, Any]) -> Measurement:
            found = cls(**values | {"circumstances": with_numbers(values["circumstances"])})
            name = _path(Path(), found.config, found.name, found.options).name
            if name != path.name:
                raise ValueError(f"by its content it should be named {name}")
            return found

        return read_json(path, "measurement", make)


def measure(
    configs: Iterable[RunConfig],
    name: str,
    records: str | Path,
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
    *,
    executor: str = "local",
    **options: Any,
) -> pd.DataFrame:
    """Make sure that every run has been measured, and return :func:`load_measurements` of them.

    Those without a checkpoint are trained.

    Raises:
        InputError: Unknown measure, option or executor.
        SweepError: As in ``sweep.run``.
    """
    options, folder, configs = _sparse(name, options), Path(records), list(configs)
    paths = {config.id: _path(folder, config, name, options) for config in configs}
    job = partial(measure_one, name=name, options=options)
    complete(configs, lambda config: paths[config.id].exists(), job, folder, runtime, executor)
    return _to_frame(paths[config.id] for config in configs if paths[config.id].exists())


def measure_one(
    config: RunConfig, records: Path, runtime: Runtime, *, name: str, options: Mapping[str, Any]
) -> Path:
    """Measure one run, training it if there is no checkpoint, and write what was found."""
    with lock_run(config, records, runtime):
        network = train(config, runtime).network.eval()
    network.set_output_stride(config.eval_output_stride)
    with translate_errors(config, runtime):
        rows = MEASURES[name](Subject(network, config, runtime), **options)
    place = circumstances(**asdict(runtime.choose_precision(config)))
    return Measurement(config, name, dict(options), rows, place).write(records)


def load_measurements(folder: str | Path, name: str) -> pd.DataFrame:
    """All measurements of one name in a folder of records as a tidy table.

    Returns:
        One row per row of a measurement: "id", the config's columns as in ``load_records``, and the
        measure's own ("at.…" for what was set, plain names for what was found). Empty where nothing
        was measured.
    """
    return _to_frame(sorted((Path(folder) / "measurements").glob(f"*.{name}-*.json")))


def _to_frame(paths: Iterable[Path]) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": found.config.id, **config_columns(found.config), **row}
        for found in map(Measurement.read, paths)
        for row in found.rows
    )


def _sparse(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from the measure's defaults, sorted, as JSON has them."""
    if name not in MEASURES:
        raise InputError(f"measure is {name!r}; there are {', '.join(sorted(MEASURES))}")
    known, owner = function_options.defaults(MEASURES[name]), f"measure {name!r}"
    function_options.check(owner, options, known)
    function_options.check_types(owner, options, MEASURES[name])
    given, usual = json.loads(json.dumps([dict(sorted(options.items())), known]))
    return function_options.sparse(given, usual)


def _path(folder: Path, config: RunConfig, name: str, options: Mapping[str, Any]) -> Path:
    text = json.dumps(options, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return folder / "measurements" / f"{config.id}.{name}-{digest}.json"
