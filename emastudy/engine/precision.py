"""Which precision a CPU is faster in: known of some processors, timed once on the others.

A processor may name bfloat16 among its abilities and yet compute slower in it. The decision is
kept, so that all processes of a sweep, and all sweeps of a user on one kind of machine, compute
alike; whoever wants the timing anew deletes the file.
"""

import functools
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from torch.nn.functional import conv2d

from emastudy.files import write_text

logger = logging.getLogger(__name__)

# A 3×3 convolution of a backbone's middle: images, channels, height and width of its maps. Forward
# and backward take 10 to 40 ms; the two precisions take turns, so that a busy machine slows both.
_SHAPE = (2, 64, 48, 48)
_SECONDS, _TURNS = 0.3, 3  # at least


@dataclass(frozen=True)
class Choice:
    """A precision, and in words why it was chosen."""

    precision: Literal["bf16", "fp16", "float32"]
    reason: str


@functools.cache
def fastest_on_cpu(threads: int, folders: Sequence[Path]) -> Choice:
    """The faster of bfloat16 and float32 on this machine's processor, see :func:`decide`."""
    choice = decide(cpu_abilities(), threads, folders, time_training)
    logger.info("precision 'auto' is %s: %s", choice.precision, choice.reason)
    return choice


def decide(
    abilities: Sequence[str],
    threads: int,
    folders: Sequence[Path],
    measure: Callable[[int], dict[str, float]],
) -> Choice:
    """Choose by what the processor has, or else by a measurement that is kept.

    Args:
        abilities: Those of "amx_bf16" and "avx512_bf16" that the processor has. With the first,
            whose units multiply matrices, bfloat16 is faster; with neither, it is slower.
        folders: For the file of the decision; the first that can be written is taken. Where none
            can, every process measures for itself.
        measure: Threads → seconds of "bf16" and "float32".
    """
    if "amx_bf16" in abilities:
        return Choice("bf16", "the processor has AMX for bfloat16")
    if not abilities:
        return Choice("float32", "the processor has no bfloat16 in hardware")
    key = {"processor": processor(), "torch": torch.__version__, "threads": threads}
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:10]
    for folder in folders:
        path = folder / f"precision-{name}.json"
        with suppress(OSError, NotImplementedError):  # the latter of file systems without locks
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):  # one process measures and the others read
                if (kept := _read(path)) is None:
                    kept = _timed(measure, threads)
                    write_text(path, json.dumps(key | asdict(kept), indent=1))
                    logger.info("the fastest precision is kept in %s", path)
            return kept
    return _timed(measure, threads)


def time_training(threads: int) -> dict[str, float]:
    """Seconds of a 3×3 convolution on channels_last maps, forward and backward, in each precision.

    The fastest of several turns. Random streams, and the number of threads, stay as they are.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    best = {"bf16": float("inf"), "float32": float("inf")}
    try:
        with torch.inference_mode(False), torch.enable_grad():
            channels = _SHAPE[1]
            x = torch.ones(_SHAPE).to(memory_format=torch.channels_last).requires_grad_()
            weight = torch.ones(channels, channels, 3, 3).requires_grad_()
            end, turn = time.perf_counter() + _SECONDS, 0
            while turn < _TURNS or time.perf_counter() < end:
                turn += 1
                for name in best:
                    began = time.perf_counter()
                    with torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"):
                        y = conv2d(x, weight, padding=1)
                    torch.autograd.grad(y, (x, weight), torch.ones_like(y))
                    best[name] = min(best[name], time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    return best


def cpu_abilities() -> list[str]:
    """Those of "amx_bf16" and "avx512_bf16" that the processor has."""
    kinds = ("amx_bf16", "avx512_bf16")
    if hasattr(torch.cpu, "get_capabilities"):  # from torch 2.11 on
        there = torch.cpu.get_capabilities()
        return [kind for kind in kinds if there.get(kind)]
    flags = _cpuinfo()
    return [kind for kind in kinds if kind in flags]


def processor() -> str:
    """The processor's name."""
    for line in _cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def user_cache() -> Path | None:
    """The user's folder of things that can be made again; None where there is no home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    with suppress(RuntimeError):
        return (base if base.is_absolute() else Path.home() / ".cache") / "emastudy"
    return None


def _timed(measure: Callable[[int], dict[str, float]], threads: int) -> Choice:
    seconds = measure(threads)
    bf16, float32 = seconds["bf16"], seconds["float32"]
    return Choice(
        "bf16" if bf16 < float32 else "float32",
        f"a convolution's training step took {1e3 * bf16:.1f} ms in bfloat16 and "
        f"{1e3 * float32:.1f} ms in float32 with threads={threads}",
    )


def _read(path: Path) -> Choice | None:
    """The decision in a file; None where there is none, or something else."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["precision"] in ("bf16", "float32"):
            return Choice(content["precision"], str(content["reason"]))
    return None


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")  # of Linux
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
