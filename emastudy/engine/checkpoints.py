"""Checkpoints: folders that are whole or not there.

Floor: engine.

A checkpoint ``checkpoint-000300/`` holds what Accelerate saves (network as safetensors, optimiser,
schedule, random states) and ``manifest.json``: config, classes, iteration, training curves and
the SHA-256 of every file. It is written under another name, flushed to disk and renamed, so a
reader, or a power cut, never meets half of one. A damaged one is passed over for the one before.
"""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from accelerate import Accelerator

from emastudy.engine.config import RunConfig
from emastudy.networks import SegmentationNetwork

logger = logging.getLogger(__name__)

_KEEP = 2  # the newest and the one before it


class CheckpointError(RuntimeError):
    """A checkpoint is missing or damaged; the message names the file and the fix."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself.

    Attributes:
        config: The run.
        classes: Class names, in the order of the logits.
        iteration: Number of SGD steps done.
        curves: Name → list of (iteration, value) so far.
        seconds: Time spent training so far.
        files: File name → SHA-256.
    """

    config: RunConfig
    classes: tuple[str, ...]
    iteration: int
    curves: dict[str, list[tuple[int, float]]]
    seconds: float
    files: dict[str, str]


def save(accelerator: Accelerator, run_dir: Path, manifest: Manifest) -> None:
    """Write a checkpoint atomically, then remove all but the newest two.

    Args:
        accelerator: Holds network, optimiser and schedule.
        run_dir: The run's folder.
        manifest: Its ``files`` are filled in here.
    """
    final = run_dir / f"checkpoint-{manifest.iteration:06d}"
    partial = final.with_name(final.name + ".partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    files = {path.name: _flush_and_hash(path) for path in sorted(partial.iterdir())}
    record = {
        "config": manifest.config.to_dict(),
        "classes": list(manifest.classes),
        "iteration": manifest.iteration,
        "curves": manifest.curves,
        "seconds": manifest.seconds,
        "files": files,
    }
    (partial / "manifest.json").write_text(json.dumps(record, indent=1, allow_nan=False))
    _flush_and_hash(partial / "manifest.json")
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    for old in _newest_first(run_dir)[_KEEP:]:
        shutil.rmtree(old)


def newest(run_dir: Path) -> tuple[Path, Manifest] | None:
    """The newest whole checkpoint of a run, or None. Damage passed over on the way is logged."""
    for folder in _newest_first(run_dir):
        try:
            return folder, read_manifest(folder)
        except CheckpointError as error:
            logger.warning("%s Going back to the one before it.", error)
    return None


def load_network(folder: str | Path) -> tuple[SegmentationNetwork, Manifest]:
    """The trained network of a checkpoint, in evaluation mode at the evaluation stride.

    Args:
        folder: A checkpoint's folder, or a run's, whose newest whole checkpoint is then taken.

    Raises:
        CheckpointError: None is there, or it is damaged.
    """
    folder = Path(folder)
    if (folder / "manifest.json").is_file():
        manifest = read_manifest(folder)
    else:
        found = newest(folder)
        if found is None:
            raise CheckpointError(
                f"{folder} holds no whole checkpoint; give a folder runs/ID or "
                "runs/ID/checkpoint-NNNNNN that `emastudy train` has written"
            )
        folder, manifest = found
    network = manifest.config.build_network(len(manifest.classes))
    network.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    network.set_output_stride(manifest.config.eval_output_stride)
    return network.eval(), manifest


def start_from(network: SegmentationNetwork, run_dir: Path) -> None:
    """Fill a network with the weights of a finished run.

    Args:
        network: Built like that run's.
        run_dir: That run's folder.

    Raises:
        CheckpointError: The run has no checkpoint, is not finished, or its network is another.
    """
    found = newest(run_dir)
    if found is None:
        raise CheckpointError(
            f"start_from: {run_dir} holds no whole checkpoint; train that run first, or give "
            "the folder it is in (runs_dir)"
        )
    folder, manifest = found
    if manifest.iteration < manifest.config.iterations:
        raise CheckpointError(
            f"start_from: run {manifest.config.id} stopped at iteration {manifest.iteration} of "
            f"{manifest.config.iterations}; finish it first"
        )
    try:
        network.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        raise CheckpointError(
            f"start_from: the network of {folder} ({len(manifest.classes)} classes) is not built "
            f"like this one: {error}"
        ) from error


def read_manifest(folder: Path) -> Manifest:
    """Read a checkpoint's manifest and verify every file it names.

    Raises:
        CheckpointError: A file is missing or does not have the content that was written.
    """
    try:
        record: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        for name, digest in record["files"].items():
            if _hash(folder / name) != digest:
                raise CheckpointError(
                    f"Checkpoint {folder} is damaged: {name} is truncated or altered."
                )
        return Manifest(
            config=RunConfig.from_dict(record["config"]),
            classes=tuple(record["classes"]),
            iteration=record["iteration"],
            curves={k: [(int(i), v) for i, v in c] for k, c in record["curves"].items()},
            seconds=record["seconds"],
            files=record["files"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"Checkpoint {folder} is damaged ({error}).") from error


def _newest_first(run_dir: Path) -> list[Path]:
    return sorted(
        (p for p in run_dir.glob("checkpoint-*") if p.is_dir() and p.suffix != ".partial"),
        reverse=True,
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_and_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _hash(path)
