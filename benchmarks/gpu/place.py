"""Where results go, how large everything is, and how much time is left."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from emastudy.errors import InputError
from emastudy.files import write_text
from emastudy.study.runs.provenance import circumstances


@dataclass(frozen=True)
class Sizes:
    """How large everything is, full or tiny."""

    #: Sides of feature maps and batches, in order of worth; channels C and bases K.
    sides: tuple[int, ...] = (65, 97, 33, 129)
    batches: tuple[int, ...] = (4, 1, 16)
    channels: int = 512
    bases: int = 64
    precisions: tuple[str, ...] = ("float32", "tf32", "bf16")
    #: Rounds of timings, and seconds that calls are repeated for in each; 0 = once.
    rounds: int = 9
    seconds: float = 0.005
    #: Side of the matrices, and numbers copied, that show what the card can do.
    matrix: int = 8192
    copied: int = 2**30
    #: Networks and batches of the throughput, side of their crops, and steps in a round.
    backbones: tuple[str, ...] = ("resnet50", "resnet101")
    training_batches: tuple[int, ...] = (12, 16)
    crop: int = 513
    steps: int = 5
    compiled: bool = True
    #: Seeds of the evidence.
    seeds: int = 5


TINY = Sizes(
    sides=(3,), batches=(1,), channels=16, bases=2, precisions=("bf16",),
    rounds=1, seconds=0.0, matrix=64, copied=2**10, backbones=("small_resnet",),
    training_batches=(2,), crop=33, steps=1, compiled=False, seeds=1,
)  # fmt: skip


class Results:
    """One file of results by name, written whole with each; those that failed are made again.

    Args:
        path: Of the JSON file. It holds "results" by name, each with a number under "made" for
            the machine and the versions of "made", which come once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: dict[str, dict[str, Any]] = {"made": {}, "results": {}}
        if path.exists():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                self._content = {"made": content["made"], "results": content["results"]}
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path} holds no results ({error}); move it away") from error

    def __contains__(self, name: str) -> bool:
        return "error" not in self._content["results"].get(name, {"error": "absent"})

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self._content["results"][name]  # type: ignore[no-any-return]

    @property
    def names(self) -> list[str]:
        """Of all results, in the order in which they were made."""
        return list(self._content["results"])

    def keep(self, name: str, values: Mapping[str, Any]) -> None:
        """Add a result, with where and with what it was made."""
        made, here = self._content["made"], _made()
        number = next((key for key, value in made.items() if value == here), str(len(made) + 1))
        made[number] = here
        self._content["results"][name] = {**values, "made": number}
        write_text(self.path, json.dumps(self._content, indent=1) + "\n")


@dataclass(frozen=True)
class Place:
    """What all stages are given."""

    device: torch.device
    sizes: Sizes
    out: Path
    end: float

    @property
    def seconds_left(self) -> float:
        """Of the time that was given."""
        return self.end - time.monotonic()

    @property
    def over(self) -> bool:
        """Whether nothing more is to be begun."""
        return self.seconds_left <= 0

    def results(self, stage: str) -> Results:
        """The results of a stage so far."""
        return Results(self.out / f"{stage}.json")

    def wait(self) -> None:
        """Until the GPU has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


@contextmanager
def computing(precision: str) -> Iterator[None]:
    """Products of float32 numbers as such for "float32"; else in TensorFloat32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def reason(error: Exception) -> str:
    """What went wrong, in a line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _made() -> dict[str, Any]:
    made = circumstances("")
    machine = {k: v for k, v in made["machine"].items() if not k.startswith("precision")}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties()
        machine["memory_gib"] = round(card.total_memory / 2**30, 1)
        machine["multiprocessors"] = card.multi_processor_count
    versions = {**made["versions"], "cuda": torch.version.cuda}
    try:
        versions["triton"] = version("triton")
    except PackageNotFoundError:
        versions["triton"] = None
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return {"machine": machine, "versions": versions, "commit": made["commit"]} | (
        {"interpreted": True} if interpreted else {}
    )
