"""Checkpoints: folders that are whole or not there.

``checkpoint-000300/`` holds what Accelerate saves (network as safetensors, optimiser, schedule,
random states of every process) and ``manifest.json``, a :class:`Manifest`. It is written under
another name, flushed to disk and renamed, so that neither a reader nor a power cut meets half of
one; a damaged one is passed over for the one before. Which is the newest is decided by the
iteration, never by a clock. The newest few are kept, and the one that ``best`` points to: a link
or, on a file system without links, a file with the checkpoint's name.
"""

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import nn

from emastudy import datasets
from emastudy.datasets import SegmentationDataset
from emastudy.engine.build import build_network, load_dataset
from emastudy.engine.config import RunConfig
from emastudy.engine.runtime import OTHER_RUNS_DIR, ScoringRuntime
from emastudy.errors import CheckpointError, InputError
from emastudy.files import sha256
from emastudy.networks import SegmentationNetwork

logger = logging.getLogger(__name__)

_MANIFEST, _WEIGHTS = "manifest.json", "model.safetensors"
_OR_ELSE = "copy it anew, take another one of the run, or train the run again"
# What a full, vanished or read-only disk raises in Python, in torch.save and in safetensors.
_WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself."""

    config: RunConfig
    classes: tuple[str, ...]  #: Class names, in the order of the logits.
    #: One RGB triple (0-255) per class, so that predictions are drawn as the dataset is without
    #: having it; empty in checkpoints from before they were kept.
    colors: tuple[tuple[int, int, int], ...]
    iteration: int  #: Number of SGD steps done.
    curves: dict[str, list[tuple[int, float]]]  #: Name → list of (iteration, value) so far.
    seconds: float
    #: Name → values of the iterations since the curves' last entry, whose mean the next entry will
    #: be.
    pending: dict[str, list[float]] = field(default_factory=dict)
    #: File name → SHA-256; filled in when the checkpoint is written.
    files: dict[str, str] = field(default_factory=dict)
    #: Fingerprint of the training split; empty in checkpoints from before it was kept.
    data: dict[str, Any] = field(default_factory=dict)
    #: Mean of the images per channel; None in checkpoints from before it was kept.
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None  #: Standard deviation, likewise.

    def load_dataset(self, split: str, runtime: ScoringRuntime) -> SegmentationDataset:
        """A split of the run's dataset, "" for the one that the run is scored on.

        Raises:
            InputError: Its classes are not those of the network.
        """
        split = split or self.config.eval_split
        dataset = load_dataset(self.config, split, runtime, option="split")
        if dataset.classes != self.classes:
            raise InputError(
                f"the dataset has the classes {', '.join(dataset.classes)}; the network was "
                f"trained for {', '.join(self.classes)}, in this order"
            )
        return dataset

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        values = {**vars(self), "config": self.config.to_dict()}
        return json.dumps(values, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Inverse of :meth:`to_json`; a ValueError, KeyError or TypeError where that is damaged."""
        values: dict[str, Any] = json.loads(text)
        curves = values["curves"].items()
        return cls(
            config=RunConfig.from_dict(values["config"]),
            classes=tuple(values["classes"]),
            colors=tuple((r, g, b) for r, g, b in values.get("colors", ())),
            iteration=values["iteration"],
            curves={name: [(int(i), v) for i, v in curve] for name, curve in curves},
            seconds=values["seconds"],
            pending=values.get("pending", {}),  # absent before checkpoints at any iteration
            files=values["files"],
            data=values.get("data", {}),
            mean=tuple(values["mean"]) if values.get("mean") else None,
            std=tuple(values["std"]) if values.get("std") else None,
        )


def unwritable(run_dir: Path, error: Exception) -> CheckpointError:
    """The error for a run's folder that can no longer be written."""
    kept = _newest_first(run_dir)
    return CheckpointError(
        f"the run's folder {run_dir} cannot be written ({error}). Free space there, make it "
        f"writable, or {OTHER_RUNS_DIR}; then start the run again. "
        + (f"It resumes from {kept[0].name}." if kept else "It has no checkpoint yet.")
    )


def save(
    accelerator: Accelerator, run_dir: Path, manifest: Manifest, *, keep: int, best: bool = False
) -> None:
    """Write a checkpoint atomically, then remove all but the newest and the best.

    To be called by every process of the run.

    Raises:
        CheckpointError: The disk is full or read-only; raised by every process. Earlier
            checkpoints are as they were.
    """
    final = run_dir / f"checkpoint-{manifest.iteration:06d}"
    partial = final.with_name(final.name + ".partial")

    def begin() -> None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)

    def finish() -> None:
        _promote(partial, final, manifest)
        if best:
            _point_best(final)
        _prune(run_dir, keep)

    try:
        _write(accelerator, begin, only_main=True)
        _write(accelerator, lambda: accelerator.save_state(str(partial)))
        _write(accelerator, finish, only_main=True)
    except _WRITE_ERRORS as error:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        raise unwritable(run_dir, error) from error


def save_bare(accelerator: Accelerator, network: nn.Module) -> None:
    """Let the accelerator save and load the bare network in place of what it has prepared.

    Left alone it saves the weights under the names that DistributedDataParallel gives them
    ("module.…"), which neither one process nor :func:`load_network` could read.
    """

    def saving(models: list[nn.Module], weights: list[dict[str, Any]], folder: str) -> None:
        weights[:] = [network.state_dict()]

    def loading(models: list[nn.Module], folder: str) -> None:
        models.clear()  # what is left here is loaded by the accelerator
        network.load_state_dict(safetensors.torch.load_file(Path(folder) / _WEIGHTS))

    accelerator.register_save_state_pre_hook(saving)
    accelerator.register_load_state_pre_hook(loading)


def newest(run_dir: Path) -> tuple[Path, Manifest] | None:
    """The newest whole checkpoint of a run, or None; damaged ones are logged and passed over."""
    folders = _newest_first(run_dir)
    for place, folder in enumerate(folders, 1):
        try:
            return folder, read_manifest(folder)
        except CheckpointError as error:
            before = "It is passed over for the one before." if place < len(folders) else ""
            logger.warning("%s %s", error, before or "There is none before it.")
    return None


def load_network(folder: str | Path) -> tuple[SegmentationNetwork, Manifest]:
    """The trained network of a checkpoint, in evaluation mode at the evaluation stride.

    It knows its ``classes`` and ``colors``, and the ``mean`` and ``std`` of its images.

    Args:
        folder: A checkpoint's folder (``RUN/best`` is one, where the run was validated), or a
            run's, whose newest whole checkpoint is then taken.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    folder = _followed(Path(folder))
    if (folder / _MANIFEST).is_file():
        manifest = read_manifest(folder)
    else:
        fix = "give a folder runs/ID or runs/ID/checkpoint-NNNNNN that `emastudy train` has written"
        if not folder.exists():
            raise CheckpointError(f"there is no {folder}; {fix}")
        folder, manifest = _newest_or_error(folder, fix)
    network = build_network(manifest.config, len(manifest.classes))
    network.load_state_dict(safetensors.torch.load_file(folder / _WEIGHTS))
    network.set_output_stride(manifest.config.eval_output_stride)
    colors, mean, std = manifest.colors, manifest.mean, manifest.std
    if not (colors and mean and std):  # from before they were kept
        manifest.config.check_sources(manifest.config.dataset)
        dataset = datasets.find(manifest.config.dataset)
        colors = colors or tuple(dataset.default_palette(manifest.classes))
        mean, std = dataset.mean, dataset.std
    network.classes, network.colors = manifest.classes, colors
    network.mean, network.std = mean, std
    return network.eval(), manifest


def load_weights(network: SegmentationNetwork, run_dir: Path) -> None:
    """Fill a network with the weights of a finished run.

    Raises:
        CheckpointError: The run has no checkpoint, is not finished, or its network is another.
    """
    folder, manifest = _newest_or_error(
        run_dir, "start_from: train that run first, or give the folder it is in (runs_dir)"
    )
    if manifest.iteration < manifest.config.iterations:
        raise CheckpointError(
            f"start_from: run {manifest.config.id} stopped at iteration {manifest.iteration} of "
            f"{manifest.config.iterations}; finish it first"
        )
    try:
        network.load_state_dict(safetensors.torch.load_file(folder / _WEIGHTS))
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
        manifest = Manifest.from_json((folder / _MANIFEST).read_text(encoding="utf-8"))
        altered = [n for n, digest in manifest.files.items() if sha256(folder / n) != digest]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"Checkpoint {folder} is damaged ({error}); {_OR_ELSE}.") from error
    if altered:
        what = f"{altered[0]} is truncated or altered"
        raise CheckpointError(f"Checkpoint {folder} is damaged: {what}; {_OR_ELSE}.")
    return manifest


def _newest_or_error(run_dir: Path, fix: str) -> tuple[Path, Manifest]:
    found = newest(run_dir)
    if found is None:
        raise CheckpointError(f"{run_dir} holds no whole checkpoint; {fix}")
    return found


def _newest_first(run_dir: Path) -> list[Path]:
    folders = (path for path in run_dir.glob("checkpoint-*") if path.is_dir())
    whole = (path for path in folders if path.suffix != ".partial")
    # By the iteration, which from a million on has more digits.
    return sorted(whole, key=lambda path: (len(path.name), path.name), reverse=True)


def _write(
    accelerator: Accelerator, action: Callable[[], object], *, only_main: bool = False
) -> None:
    """Write something; where that fails in one process it raises in all, and none waits."""
    failure: Exception | None = None
    try:
        if accelerator.is_main_process or not only_main:
            action()
    except _WRITE_ERRORS as error:
        failure = error
    failures = torch.tensor(failure is not None, device=accelerator.device, dtype=torch.long)
    if accelerator.reduce(failures).item():
        raise failure or OSError("another process of the run could not write")


def _promote(partial: Path, final: Path, manifest: Manifest) -> None:
    """Describe what was written, flush it to disk and let it take its name."""
    files = {path.name: _flush_and_hash(path) for path in sorted(partial.iterdir())}
    described = dataclasses.replace(manifest, files=files)
    (partial / _MANIFEST).write_text(described.to_json(), encoding="utf-8")
    _flush_and_hash(partial / _MANIFEST)
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)


def _flush_and_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return sha256(path)


def _point_best(checkpoint: Path) -> None:
    """Let ``best`` point to a checkpoint."""
    fresh = checkpoint.with_name("best.partial")
    fresh.unlink(missing_ok=True)
    try:
        fresh.symlink_to(checkpoint.name)
    except OSError:  # a file system without links
        fresh.write_text(checkpoint.name, encoding="utf-8")
    fresh.replace(checkpoint.with_name("best"))


def _followed(folder: Path) -> Path:
    """The checkpoint that ``best`` points to, link or file; any other path as it is."""
    if folder.name != "best":
        return folder
    named = folder.is_file()
    return folder.with_name(folder.read_text(encoding="utf-8")) if named else folder.resolve()


def _prune(run_dir: Path, keep: int) -> None:
    """Remove checkpoints that are neither among the newest nor the best, and unfinished ones."""
    best = _followed(run_dir / "best").name
    old = [folder for folder in _newest_first(run_dir)[keep:] if folder.name != best]
    for folder in (*old, *run_dir.glob("checkpoint-*.partial")):
        shutil.rmtree(folder)
