"""Features of a frozen backbone: computed once per image, read by every run that trains a head.

Floor: engine.

A backbone that does not learn gives the same feature maps in every iteration of every run. They
are computed once, for each training image and its mirror image, and for each scored image, and
kept under ``runs_dir/features/``; a run then costs its head alone. One folder holds one feature
map (one stage of the backbone) of one split::

    DATASET-SPLIT-BACKBONE-DIGEST/
      features.bin    all images' feature maps, one after another, (views, h, w, channels) each
      masks.bin       their masks, uint8, (H, W) each
      index.txt       one line an image: views h w channels H W
      manifest.json   what was computed, and the element type of features.bin

The digest is of everything that the numbers depend on: dataset, split, options and a sample of
its content, geometry, backbone, options, the weights themselves, output stride and element type.
That type is the one in which the backbone computes (bfloat16 under autocast, else float32), so
the head receives exactly what it would in the whole network: nothing is rounded on the way.

A folder is written under another name and renamed when whole. Of several processes that need the
same one, the first builds and the others wait; a builder that was killed is taken over from where
it had got to.
"""

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from jaxtyping import Integer, Shaped
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from emastudy import networks
from emastudy.datasets import (
    SegmentationDataset,
    evaluation_transform,
    pad_to_grid,
    whole_image_transform,
)
from emastudy.engine.build import load_dataset
from emastudy.engine.config import RunConfig
from emastudy.engine.runtime import Runtime
from emastudy.networks import SegmentationNetwork, evaluation_mode

logger = logging.getLogger(__name__)

_FORMAT = 1  # part of the digest: raised when files of before would be misread
_CHUNK = 64  # images between two points from which an interrupted builder goes on
_SAMPLES = 8  # images whose content identifies a dataset


class CachedFeatures(Dataset[tuple[list[Tensor], Tensor]]):
    """Feature maps and masks of a split, read from files that are mapped into memory.

    Entry i is (maps, mask): one tensor (views, channels, h, w) per feature map that the head
    reads, channels last in memory, views being the image alone or the image and its mirror image;
    and the (unmirrored) mask (H, W), int64.

    Args:
        folders: One per feature map.
        classes: Class names, kept as an attribute.
        indices: Which of the images; None = all.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        classes: tuple[str, ...],
        indices: Sequence[int] | None = None,
    ) -> None:
        self.classes = classes
        self._stores = [_Store(folder) for folder in folders]
        self._indices = range(len(self._stores[0].shapes)) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        index = self._indices[index]
        maps = [store.features_of(index) for store in self._stores]
        return maps, self._stores[0].mask_of(index).long()


def training_features(
    network: SegmentationNetwork, config: RunConfig, runtime: Runtime
) -> CachedFeatures:
    """Features of the training split, whole images and their mirror images; built where absent.

    Args:
        network: Gives the backbone; it is left as it was.
        config: The run.
        runtime: Where images and features lie.
    """
    dataset = load_dataset(config, config.train_split, runtime)
    with evaluation_mode(network, config.output_stride):
        return _cached(network, dataset, config.train_split, config.crop_size, config, runtime)


def evaluation_features(
    network: SegmentationNetwork,
    config: RunConfig,
    runtime: Runtime,
    split: str = "",
    indices: Sequence[int] | None = None,
) -> CachedFeatures:
    """Features of a split as ``evaluate`` would compute them; built where absent, of all images.

    Args:
        network: Gives the backbone; it is left as it was.
        config: The run.
        runtime: Where images and features lie.
        split: Default ``config.eval_split``.
        indices: Which of the images to hand out; None = all.
    """
    split = split or config.eval_split
    dataset = load_dataset(config, split, runtime)
    with evaluation_mode(network, config.eval_output_stride):
        return _cached(network, dataset, split, 0, config, runtime, indices)


def evaluation_data(
    network: SegmentationNetwork, config: RunConfig, runtime: Runtime
) -> SegmentationDataset | CachedFeatures:
    """What to hand to ``evaluate``: the scored split, as features where the backbone is frozen."""
    if config.frozen_backbone:
        return evaluation_features(network, config, runtime)
    return load_dataset(config, config.eval_split, runtime)


def either_view(
    maps: Sequence[Shaped[Tensor, "2 _ _ _"]], mask: Integer[Tensor, "h w"]
) -> tuple[list[Tensor], Tensor]:
    """The image or, with probability ½, its mirror image: an entry made a training sample."""
    mirrored = int(torch.rand(()) < 0.5)
    return [views[mirrored] for views in maps], mask.flip(-1) if mirrored else mask


class _Store:
    """One folder of the cache. Its files are mapped when first read, so that it pickles small."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dtype: torch.dtype = getattr(
            torch, json.loads((folder / "manifest.json").read_text())["dtype"]
        )
        self.shapes = _read_index(folder)
        self._starts = [(0, 0)]
        for shape in self.shapes:
            f, m = self._starts[-1]
            self._starts.append((f + math.prod(shape[:4]), m + math.prod(shape[4:])))
        for name, size in zip(("features.bin", "masks.bin"), self._bytes(), strict=True):
            found = (folder / name).stat().st_size
            if found != size:
                raise ValueError(
                    f"{folder / name} has {found} bytes instead of {size}: it is damaged; delete "
                    f"{folder} and it is built again"
                )

    def features_of(self, index: int) -> Tensor:
        views, h, w, channels, *_ = self.shapes[index]
        flat = self._features[self._starts[index][0] : self._starts[index + 1][0]]
        return flat.view(views, h, w, channels).permute(0, 3, 1, 2)

    def mask_of(self, index: int) -> Tensor:
        flat = self._masks[self._starts[index][1] : self._starts[index + 1][1]]
        return flat.view(self.shapes[index][4:])

    def _bytes(self) -> tuple[int, int]:
        features, masks = self._starts[-1]
        return features * self.dtype.itemsize, masks

    @cached_property
    def _features(self) -> Tensor:
        return torch.from_file(
            str(self.folder / "features.bin"), size=self._starts[-1][0], dtype=self.dtype
        )

    @cached_property
    def _masks(self) -> Tensor:
        return torch.from_file(
            str(self.folder / "masks.bin"), size=self._starts[-1][1], dtype=torch.uint8
        )


class _Prepared(Dataset[tuple[Tensor, Tensor]]):
    """Images as the backbone takes them, (views, 3, H', W'), and masks (H, W), uint8."""

    def __init__(self, dataset: SegmentationDataset, crop_size: int) -> None:
        self.dataset, self.mirrored = dataset, bool(crop_size)
        self.transform = (
            whole_image_transform(dataset, crop_size)
            if crop_size
            else evaluation_transform(dataset)
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = (x.as_subclass(Tensor) for x in self.transform(*self.dataset[index]))
        if self.mirrored:
            return torch.stack([image, image.flip(-1)]), mask.byte()
        return pad_to_grid(image[None]), mask.byte()


def _cached(
    network: SegmentationNetwork,
    dataset: SegmentationDataset,
    split: str,
    crop_size: int,
    config: RunConfig,
    runtime: Runtime,
    indices: Sequence[int] | None = None,
) -> CachedFeatures:
    dtype = runtime.autocast_dtype(config) or torch.float32
    prepared = _Prepared(dataset, crop_size)
    common = {
        "format": _FORMAT,
        "dataset": dataset.name,
        "split": split,
        "options": config.dataset_options,
        "images": len(dataset),
        "content": _content_digest(dataset),
        "crop_size": crop_size,  # 0: whole images at their own size
        "output_stride": config.output_stride if crop_size else config.eval_output_stride,
        "backbone": config.backbone,
        "backbone_options": networks.backbone_defaults(config.backbone, config.head)
        | config.backbone_options,
        "weights": _weights_digest(network),
        "dtype": str(dtype).removeprefix("torch."),
    }
    folders = []
    for level in getattr(network.head, "levels", (-1,)):
        stage = range(len(network.backbone.stages))[level]
        description = {**common, "stage": stage}
        digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
        name = f"{dataset.name}-{split}-{config.backbone}-{digest[:12]}"
        folder = Path(runtime.runs_dir) / "features" / name
        if not folder.is_dir():
            with _sole_builder(folder):
                # Another process may have been the builder that this one waited for.
                if not folder.is_dir():
                    _build(folder, description, network, prepared, runtime)
        folders.append(folder)
    return CachedFeatures(folders, dataset.classes, indices)


@contextmanager
def _sole_builder(folder: Path) -> Iterator[None]:
    """Hold the lock on building ``folder``; it goes free when its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(folder.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s is being built by another process; waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@torch.inference_mode()
def _build(
    folder: Path,
    description: dict[str, Any],
    network: SegmentationNetwork,
    prepared: _Prepared,
    runtime: Runtime,
) -> None:
    """Compute what is missing of a folder under another name, then rename it."""
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(exist_ok=True)
    (partial / "manifest.json").write_text(json.dumps(description, indent=1, sort_keys=True))
    dtype: torch.dtype = getattr(torch, description["dtype"])
    done = _read_index(partial)
    device = next(network.parameters()).device
    loader = DataLoader(
        Subset(prepared, range(len(done), len(prepared))),
        batch_size=None,
        num_workers=runtime.workers,
    )
    with (
        (partial / "features.bin").open("ab") as features,
        (partial / "masks.bin").open("ab") as masks,
        (partial / "index.txt").open("a") as index,
    ):
        # What was written after the last line of the index does not count.
        features.truncate(sum(math.prod(shape[:4]) for shape in done) * dtype.itemsize)
        masks.truncate(sum(math.prod(shape[4:]) for shape in done))
        index.truncate(sum(len(_line(shape)) for shape in done))
        lines: list[str] = []
        bar = tqdm(loader, desc=folder.name, total=len(prepared), initial=len(done), unit="image")
        for number, (views, mask) in enumerate(bar, len(done) + 1):
            x = views.to(device).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                for stage in network.backbone.stages[: description["stage"] + 1]:
                    x = stage(x)
            maps = x.to("cpu", dtype).permute(0, 2, 3, 1).contiguous()
            features.write(maps.view(torch.uint8).numpy())
            masks.write(mask.contiguous().numpy())
            lines.append(_line((*maps.shape, *mask.shape)))
            if len(lines) == _CHUNK or number == len(prepared):
                for file in (features, masks):
                    file.flush()
                    os.fsync(file.fileno())
                index.writelines(lines)
                index.flush()
                os.fsync(index.fileno())
                lines = []
    partial.rename(folder)


def _line(shape: Sequence[int]) -> str:
    return " ".join(map(str, shape)) + "\n"


def _read_index(folder: Path) -> list[tuple[int, ...]]:
    """(views, h, w, channels, H, W) of each image; a line that was cut short does not count."""
    path = folder / "index.txt"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]


def _content_digest(dataset: SegmentationDataset) -> str:
    """SHA-256 (12 digits) of some images and masks, evenly spread: other files, other digest."""
    digest = hashlib.sha256()
    for k in range(_SAMPLES):
        for x in dataset[k * (len(dataset) - 1) // (_SAMPLES - 1)]:
            digest.update(str(tuple(x.shape)).encode() + x.numpy().tobytes())
    return digest.hexdigest()[:12]


def _weights_digest(network: SegmentationNetwork) -> str:
    """SHA-256 (12 digits) of the backbone's parameters and statistics."""
    digest = hashlib.sha256()
    for name, value in network.backbone.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
