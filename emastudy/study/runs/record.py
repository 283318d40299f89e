"""Records: what is kept of a finished run. One JSON file a run, named by the run's id.

Floor: study.
"""

import dataclasses
import json
import os
import platform
import re
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import emastudy
from emastudy import networks
from emastudy.engine import NUMBERS_VERSION, RunConfig

SCHEMA = 1
_PACKAGES = ("accelerate", "numpy", "torch", "torchmetrics", "torchvision")


class RecordError(ValueError):
    """A record cannot be trusted, or not be written; the message names the file and the fix."""


@dataclass(frozen=True)
class Record:
    """Config, results and circumstances of one finished run.

    Attributes:
        config: The run.
        metrics: Means by name, percent: "miou", "pixel_accuracy", and since they exist
            "mean_accuracy" and "frequency_weighted_iou".
        iou: IoU per class, 0-1; None for a class neither present nor predicted.
        confusion: Pixel counts, [true class][predicted class].
        curves: Name → list of (iteration, value).
        seconds: "train" and "evaluate", wall clock.
        parameters: Number of the network's parameters, frozen ones included.
        machine: Processor, threads, accelerator, precision, operating system.
        versions: Versions of Python and the packages that make the numbers.
        commit: Git commit of the source, "+" behind it if files differed; "" outside a checkout.
        numbers: Version of the numbers, see ``engine.NUMBERS_VERSION``.
        created: UTC time of writing.
    """

    config: RunConfig
    metrics: dict[str, float]
    iou: dict[str, float | None]
    confusion: list[list[int]]
    curves: dict[str, list[tuple[int, float]]]
    seconds: dict[str, float]
    parameters: int
    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str
    numbers: int
    created: str

    def write(self, folder: Path) -> Path:
        """Write ``folder/ID.json`` atomically: it is whole or it is not there.

        Raises:
            RecordError: The disk is full or read-only; a record from before stays as it was.
        """
        values = {"schema": SCHEMA, "id": self.config.id, **dataclasses.asdict(self)}
        values["config"] = self.config.to_dict()
        return write_json(folder / f"{self.config.id}.json", values)

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Read a record and check that it is what its name says.

        Raises:
            RecordError: Truncated, of another schema, or of another run than its name.
        """
        fix = "delete it and run the notebook again to make it anew"
        try:
            values = json.loads(path.read_text())
        except ValueError as error:
            raise RecordError(f"record {path} is no JSON ({error}): truncated? {fix}") from error
        if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
            raise RecordError(f"record {path} does not use schema {SCHEMA}; {fix}")
        identity = values.pop("id", None)
        try:
            values = with_numbers(values)
            values["config"] = RunConfig.from_dict(values["config"])
            curves = values["curves"].items()
            values["curves"] = {k: [(int(i), float(v)) for i, v in c] for k, c in curves}
            record = cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"record {path} has wrong fields ({error}); {fix}") from error
        if not identity == record.config.id == path.stem:
            raise RecordError(
                f"record {path} says it is run {identity} and its config makes it "
                f"{record.config.id}; all three names must agree: {fix}"
            )
        return record


def records_folder(profile: str) -> Path:
    """``experiments/records/PROFILE`` of the checkout that the working directory lies in.

    Outside a checkout it is ``records/PROFILE`` in the working directory.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "experiments" / "records").is_dir():
            return folder / "experiments" / "records" / profile
    return here / "records" / profile


def runs_folder() -> Path:
    """Folder ``runs`` beside ``experiments``: checkpoints and logs."""
    root = records_folder("")
    return (root.parents[1] if root.parent.name == "experiments" else root.parent) / "runs"


def load_records(folder: str | Path) -> pd.DataFrame:
    """All records of a folder as a tidy table, one row a run.

    Returns:
        Index "id"; the config's fields (options as ``head.num_iterations``, ``dataset.noise``, …),
        "miou", "pixel_accuracy", "seconds", and "record", the :class:`Record` itself.
    """
    return to_frame(Record.read(path) for path in sorted(Path(folder).glob("*.json")))


def to_frame(records: Any) -> pd.DataFrame:
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
    head = networks.head_defaults(config.head) | values.pop("head_options")
    tables = {"head": head, "dataset": values.pop("dataset_options")}
    options = {f"{kind}.{k}": v for kind, table in tables.items() for k, v in table.items()}
    return {**values, **options}


def write_json(path: Path, values: dict[str, Any]) -> Path:
    """Write a JSON file atomically: it is whole or it is not there.

    Raises:
        RecordError: The disk is full or read-only; a file from before stays as it was.
        ValueError: A number that JSON does not have (NaN, infinity).
    """
    text = _compact_lists(json.dumps(values, indent=1, allow_nan=False))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(partial).chmod(0o644)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RecordError(
            f"{path} cannot be written ({error}). Free space there or make the folder writable, "
            "then run again: the trained network is kept, nothing is trained twice"
        ) from error
    return path


def check_writable(folder: Path, choice: str = "another folder of records") -> None:
    """Make a folder and try to write in it, before hours of work for it.

    Args:
        folder: The folder.
        choice: What may be given instead, for the message.

    Raises:
        RecordError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        raise RecordError(
            f"folder {folder} cannot be written ({error}). Free space there, make it writable, or "
            f"choose {choice}; then run again"
        ) from error


def circumstances(precision: str) -> dict[str, Any]:
    """The fields of a record that say where and with what it was made.

    Args:
        precision: What the run computed in, see ``Runtime.precision``.
    """
    package = Path(emastudy.__file__).parent
    return {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "precision": precision,
            "processes": int(os.environ.get("WORLD_SIZE", "1")),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "commit": _commit(package),
        "numbers": NUMBERS_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def with_numbers(values: dict[str, Any]) -> dict[str, Any]:
    """A record's or measurement's circumstances with the version of the numbers.

    Files from before the field existed hold a digest of the source instead and are of version 1:
    no golden loss had changed until then, and the audit trained samples of every age anew.
    """
    return {"numbers": 1, **{k: v for k, v in values.items() if k != "source"}}


def _commit(folder: Path) -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        # Only tracked files of the package count: a record being written does not.
        return git("rev-parse", "HEAD")[:12] + ("+" if git("status", "-s", "-uno", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _compact_lists(text: str) -> str:
    """Put JSON lists of plain numbers on one line, so that a record's diff can be read."""
    return re.sub(r"\[\s+([-\d.eE+,\s]+?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
