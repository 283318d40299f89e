"""The cache, and the one place that tells a frozen backbone from one that learns.

Features are computed once per image: each training image and its mirror image, each scored image
alone, under ``runs_dir/features/DATASET-SPLIT-BACKBONE-DIGEST/`` (see ``store``). The digest is of
everything that the numbers depend on. They are kept in the type in which the backbone computes
(bfloat16 under autocast, else float32), so the head receives exactly what it would in the whole
network.

A folder is written under another name and renamed when whole. Of several processes that need the
same one, the first builds and the others wait; a builder that was killed is taken over from where
it had got to.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from jaxtyping import Float, Integer, Shaped
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from emastudy import datasets, networks, own
from emastudy.datasets import SegmentationDataset, evaluation_transform, pad_to_grid
from emastudy.engine.config import RunConfig
from emastudy.engine.features import store
from emastudy.engine.features.store import CachedFeatures
from emastudy.engine.loading import loading_errors, one_by_one
from emastudy.engine.runtime import Runtime
from emastudy.errors import InputError
from emastudy.files import write_text
from emastudy.networks import SegmentationNetwork, evaluation_mode

logger = logging.getLogger(__name__)

_FORMAT = 4  # part of the digest: raised when files of before would be misread


class HeadNetwork(nn.Module):
    """What follows a network's backbone, the padding of images included."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.head = network.head

    def forward(
        self,
        maps: Sequence[Float[Tensor, "b _ _ _"]],
        size: tuple[int, int] | None = None,
        stride: int = 8,
    ) -> Float[Tensor, "b classes _ _"]:
        """Logits in float32, from the feature maps that the head reads.

        Args:
            size: Height and width of the images before ``pad_to_grid``, to give logits of;
                None = leave them at the head's own resolution.
            stride: Image pixels per pixel of the backbone's last map.
        """
        logits: Tensor = self.head(maps).float()
        if size is None:
            return logits
        grid = pad_to_grid(torch.empty(1, 3, *size, device="meta"), stride).shape[-2:]
        logits = F.interpolate(logits, size=grid, mode="bilinear", align_corners=True)
        return logits[..., : size[0], : size[1]]


def trained_part(network: SegmentationNetwork, config: RunConfig) -> nn.Module:
    """What is trained: the whole network, or what follows its frozen backbone."""
    return HeadNetwork(network) if config.frozen_backbone else network


def training_samples(
    network: SegmentationNetwork, dataset: SegmentationDataset, config: RunConfig, runtime: Runtime
) -> tuple[Dataset[Any], Callable[..., Any]]:
    """What :func:`trained_part` of a whole network learns from, and what makes samples of it.

    Features are of whole images and their mirror images; they are built where they are absent.
    """
    if not config.frozen_backbone:
        scales, side = config.scales, config.crop_size
        return dataset, datasets.training_transform(dataset, scales=scales, crop_size=side)
    with evaluation_mode(network, config.output_stride):
        split, side = config.train_split, config.crop_size
        return _cached(network, dataset, split, side, config, runtime), either_view


def scoring_features(
    network: SegmentationNetwork,
    dataset: SegmentationDataset,
    split: str,
    config: RunConfig,
    runtime: Runtime,
    indices: Sequence[int] | None = None,
    square: int = 0,
) -> CachedFeatures | None:
    """Features of a split as the whole network would compute them; None if the backbone learns.

    They are built for all images where they are absent, and handed out for those of ``indices``.

    Args:
        square: Side of the squares that images are fitted into, as those that a head learns from;
            their mirror images come with them. 0 = images as they are.
    """
    if not config.frozen_backbone:
        return None
    with evaluation_mode(network, config.eval_output_stride):
        return _cached(network, dataset, split, square or None, config, runtime, indices)


def either_view(
    maps: Sequence[Shaped[Tensor, "2 _ _ _"]], mask: Integer[Tensor, "h w"]
) -> tuple[list[Tensor], Tensor]:
    """The image or, with probability ½, its mirror image: an entry made a training sample."""
    mirrored = int(torch.rand(()) < 0.5)
    return [views[mirrored] for views in maps], mask.flip(-1) if mirrored else mask


def _cached(
    network: SegmentationNetwork,
    dataset: SegmentationDataset,
    split: str,
    # Of the squares that images and their mirror images are fitted into, 0 = all are of one size;
    # None = images as they are, one by one, without mirror images.
    side: int | None,
    config: RunConfig,
    runtime: Runtime,
    indices: Sequence[int] | None = None,
) -> CachedFeatures:
    """Features by the network as it is, in evaluation mode at the stride that is wanted."""
    dtype = runtime.autocast_dtype(config) or torch.float32
    common: dict[str, Any] = {
        "format": _FORMAT,
        "dataset": dataset.name,
        "split": split,
        "options": config.dataset_options,
        "data": dataclasses.asdict(dataset.fingerprint()),
        "crop_size": {None: 0, 0: "whole images"}.get(side, side),
        "output_stride": network.output_stride,
        "backbone": config.backbone,
        "backbone_options": networks.backbone_defaults(config.backbone, config.head)
        | config.backbone_options,
        "weights": _weights_digest(network),
        "dtype": str(dtype).removeprefix("torch."),
    }
    if own.is_path(config.backbone):
        common["source"] = config.sources[own.module(config.backbone)]
    folders = []
    for level in getattr(network.head, "levels", (-1,)):
        description = {**common, "stage": range(len(network.backbone.stages))[level]}
        digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
        name = f"{dataset.name}-{split}-{own.short(config.backbone)}-{digest[:12]}"
        folder = Path(runtime.runs_dir) / "features" / name
        if not folder.is_dir():
            with _sole_builder(folder):
                # Another process may have been the builder that this one waited for.
                if not folder.is_dir():
                    _build(folder, description, side, network, dataset, runtime.workers)
        if (there := store.written(folder)) != len(dataset):
            raise InputError(
                f"{folder} holds {there} of {len(dataset)} images; delete it and it is built again"
            )
        folders.append(folder)
    return CachedFeatures(folders, dataset.classes, indices)


def _sole_builder(folder: Path) -> AbstractContextManager[object]:
    """The lock on building ``folder``, held; it goes free when its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s is being built by another process; waiting for it", folder)
        return lock.acquire()


@torch.inference_mode()
def _build(
    folder: Path,
    description: dict[str, Any],
    side: int | None,
    network: SegmentationNetwork,
    dataset: SegmentationDataset,
    workers: int,
) -> None:
    """Compute what is missing of a folder under another name, then rename it."""
    unfinished = folder.with_name(folder.name + ".partial")
    write_text(unfinished / "manifest.json", json.dumps(description, indent=1, sort_keys=True))
    dtype: torch.dtype = getattr(torch, description["dtype"])
    device = next(network.parameters()).device
    stages = network.backbone.stages[: description["stage"] + 1]
    pairs, fit = side is not None, evaluation_transform(dataset)
    if side is not None:
        fit = datasets.whole_image_transform(dataset, side, network.output_stride)
    see = partial(_views, fit, None if pairs else network.output_stride)
    done, total = store.written(unfinished), len(dataset)
    first = tuple(store.read(unfinished, 0)[1].shape) if done else ()
    with loading_errors(workers):
        loader = one_by_one(dataset, range(done, total), see, workers)
        progress = tqdm(loader, folder.name, total, initial=done, unit="image")
        for index, (views, mask) in enumerate(progress, done):
            first = first or tuple(mask.shape)
            if side == 0 and tuple(mask.shape) != first:
                raise InputError(
                    f"crop_size is 0, and images of {dataset.name} {description['split']} differ "
                    f"in size: {first}, {tuple(mask.shape)}; give the side of squares that "
                    "they are fitted into, since a batch is of one size"
                )
            x = views.to(device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                for stage in stages:
                    x = stage(x)
            store.write(unfinished, index, x, mask, dtype)
    unfinished.rename(folder)


def _views(fit: nn.Module, stride: int | None, sample: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    """An image as the backbone takes it, (views, 3, H', W'), and its mask, uint8.

    Padded to the grid of ``stride``; None = as ``fit`` made it, with its mirror image.
    """
    image, mask = (x.as_subclass(Tensor) for x in fit(*sample))
    if stride is None:
        return torch.stack([image, image.flip(-1)]), mask.byte()
    return pad_to_grid(image[None], stride), mask.byte()


def _weights_digest(network: SegmentationNetwork) -> str:
    """SHA-256 (12 digits) of the backbone's parameters and statistics."""
    digest = hashlib.sha256()
    for name, value in network.backbone.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
