"""Checkpoints: folders that are whole or not there.

Floor: engine.

A checkpoint ``checkpoint-000300/`` holds what Accelerate saves (network as safetensors, optimiser,
schedule, random states of every process) and ``manifest.json``: config, classes, their colours,
iteration, training curves and the SHA-256 of every file. It is written under another name, flushed
to disk and renamed, so a reader, or a power cut, never meets half of one. A damaged one is passed
over for the one before. Which is the newest is told by its iteration, never by a clock. The newest
few are kept, and the one that the link ``best`` points to.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import nn

from emastudy.engine.build import build_network
from emastudy.engine.config import RunConfig
from emastudy.networks import SegmentationNetwork

logger = logging.getLogger(__name__)

# What a full, vanished or read-only disk raises in Python, in torch.save and in safetensors.
_WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged or cannot be written; the message names folder and fix."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself.

    Attributes:
        config: The run.
        classes: Class names, in the order of the logits.
        colors: One RGB triple (0-255) per class, so that predictions are drawn as the dataset is
            without having it; empty in checkpoints from before they were kept.
        iteration: Number of SGD steps done.
        curves: Name → list of (iteration, value) so far.
        seconds: Time spent training so far.
        pending: Name → values of the iterations since the curves' last entry, whose mean the next
            entry will be.
        files: File name → SHA-256; filled in when the checkpoint is written.
    """

    config: RunConfig
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    iteration: int
    curves: dict[str, list[tuple[int, float]]]
    seconds: float
    pending: dict[str, list[float]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def check_writable(run_dir: Path) -> None:
    """Make the run's folder and try to write in it, before hours of training.

    Raises:
        CheckpointError: It cannot be written.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir) as file:
            file.write(b"0")
    except OSError as error:
        raise CheckpointError(unwritable(run_dir, error)) from error


def unwritable(run_dir: Path, error: Exception) -> str:
    """What to say when the run's folder does not take what is written."""
    kept = _newest_first(run_dir)
    return (
        f"the run's folder {run_dir} cannot be written ({error}). Free space there or make it "
        "writable, or choose another with runs_dir (--runs-dir for the command); then start the "
        "run again. "
        + (f"It goes on from {kept[0].name}." if kept else "It has no checkpoint yet.")
    )


def save(
    accelerator: Accelerator, run_dir: Path, manifest: Manifest, *, keep: int, best: bool = False
) -> Path:
    """Write a checkpoint atomically, then remove all but the newest and the best.

    To be called by every process of the run.

    Args:
        accelerator: Holds network, optimiser and schedule.
        run_dir: The run's folder.
        manifest: Its ``files`` are filled in here.
        keep: How many of the newest are kept.
        best: Let the link ``best`` point to this one.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: The disk is full or read-only; raised by every process. Earlier
            checkpoints are as they were.
    """
    final = run_dir / f"checkpoint-{manifest.iteration:06d}"
    partial = final.with_name(final.name + ".partial")

    def prepare() -> None:
        if accelerator.is_main_process:
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir(parents=True)

    def finish() -> None:
        if not accelerator.is_main_process:
            return
        files = {path.name: _flush_and_hash(path) for path in sorted(partial.iterdir())}
        record = {
            "config": manifest.config.to_dict(),
            "classes": list(manifest.classes),
            "colors": manifest.colors,
            "iteration": manifest.iteration,
            "curves": manifest.curves,
            "seconds": manifest.seconds,
            "pending": manifest.pending,
            "files": files,
        }
        (partial / "manifest.json").write_text(json.dumps(record, indent=1, allow_nan=False))
        _flush_and_hash(partial / "manifest.json")
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        link = run_dir / "best"
        if best:
            fresh = run_dir / "best.partial"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(final.name)
            fresh.replace(link)
        old = [p for p in _newest_first(run_dir)[keep:] if not (link.exists() and link.samefile(p))]
        for folder in (*old, *run_dir.glob("checkpoint-*.partial")):
            shutil.rmtree(folder)

    try:
        _on_all(accelerator, prepare)
        _on_all(accelerator, lambda: accelerator.save_state(str(partial)))
        _on_all(accelerator, finish)
    except _WRITE_ERRORS as error:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(unwritable(run_dir, error)) from error
    return final


def save_bare(accelerator: Accelerator, network: nn.Module) -> None:
    """Let the accelerator save and load the bare network in place of what it has prepared.

    Left alone it saves the weights under the names that DistributedDataParallel gives them
    ("module.…"), which neither one process nor :func:`load_network` could read.
    """

    def saving(models: list[nn.Module], weights: list[dict[str, Any]], folder: str) -> None:
        weights[:] = [network.state_dict()]

    def loading(models: list[nn.Module], folder: str) -> None:
        models.clear()  # what is left here is loaded by the accelerator
        network.load_state_dict(safetensors.torch.load_file(Path(folder) / "model.safetensors"))

    accelerator.register_save_state_pre_hook(saving)
    accelerator.register_load_state_pre_hook(loading)


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
        folder: A checkpoint's folder (``RUN/best`` is one, where the run was validated), or a
            run's, whose newest whole checkpoint is then taken.

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
    network = build_network(manifest.config, len(manifest.classes))
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
            colors=tuple((r, g, b) for r, g, b in record.get("colors", ())),
            iteration=record["iteration"],
            curves={k: [(int(i), v) for i, v in c] for k, c in record["curves"].items()},
            seconds=record["seconds"],
            pending=record.get("pending", {}),  # absent before checkpoints at any iteration
            files=record["files"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"Checkpoint {folder} is damaged ({error}).") from error


def _on_all(accelerator: Accelerator, step: Callable[[], object]) -> None:
    """Do one step of writing; where it fails in one process it raises in all, and none waits."""
    failure: Exception | None = None
    try:
        step()
    except _WRITE_ERRORS as error:
        failure = error
    failures = torch.tensor(failure is not None, device=accelerator.device, dtype=torch.long)
    if accelerator.reduce(failures).item():
        raise failure or OSError("another process of the run could not write")


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
