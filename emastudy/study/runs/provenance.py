"""Provenance: where, when and with what a result was made."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import emastudy
from emastudy.engine import NUMBERS_VERSION, RunConfig, Runtime, load_dataset
from emastudy.engine.build import data_seen
from emastudy.engine.precision import processor

_PACKAGES = ("accelerate", "numpy", "torch", "torchmetrics", "torchvision")


def circumstances(precision: str, reason: str = "") -> dict[str, Any]:
    """The fields of a record that say where and with what it was made."""
    return {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "precision": precision,
            "precision_reason": reason,
            "processes": int(os.environ.get("WORLD_SIZE", "1")),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "commit": _commit(Path(emastudy.__file__).parent),
        "numbers": NUMBERS_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def splits_seen(config: RunConfig, runtime: Runtime) -> dict[str, dict[str, Any]]:
    """Split → fingerprint of the files that a run learns from and is scored on."""
    found = {
        split: data_seen(load_dataset(config, split, runtime))
        for split in (config.train_split, config.eval_split)
    }
    return {split: seen for split, seen in found.items() if seen}


def with_numbers(values: dict[str, Any]) -> dict[str, Any]:
    """A record's or measurement's circumstances with the version of the numbers.

    Files from before the field existed hold a digest of the source instead and are of version 1:
    no golden loss had changed until then, and the audit trained samples of every age anew.
    """
    return {"numbers": 1, **{k: v for k, v in values.items() if k != "source"}}


def _commit(package: Path) -> str:
    """Commit that a checkout's package is at, "+" behind it if files differ.

    Elsewhere it is what the variable EMASTUDY_COMMIT says, for copies without ``.git``, or "".
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=package, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # installed inside another's checkout?
        # Only tracked files of the package count: a record being written does not.
        return git("rev-parse", "HEAD")[:12] + ("+" if git("status", "-s", "-uno", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("EMASTUDY_COMMIT", "")
