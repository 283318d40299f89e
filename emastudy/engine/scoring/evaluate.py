"""Scoring: one confusion matrix over a whole set, and predictions for single images.

Floor: engine.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, Subset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix
from tqdm.auto import tqdm

from emastudy.datasets import IGNORE, SegmentationDataset, evaluation_transform, pad_to_grid
from emastudy.engine.config import RunConfig, Runtime
from emastudy.engine.features.cache import CachedFeatures
from emastudy.engine.scoring import metrics
from emastudy.engine.scoring.partial_counts import PartialCounts, fingerprint
from emastudy.networks import SegmentationNetwork

#: The scales that multi-scale scores are averaged over.
MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)

# Images between two updates of the progress bar's mIoU.
_LOOK_EVERY = 10


@dataclass(frozen=True)
class Scores:
    """Counts over a set, and what follows from them, see :mod:`emastudy.engine.metrics`.

    Attributes:
        confusion: (classes, classes) int64; entry (i, j) counts pixels of class i predicted as j.
            Ignored pixels are in none.
        classes: Class names.
        border: (classes,) boundary F-score per class, 0-1, NaN for a class without borders; None
            where it was not asked for.
    """

    confusion: Int[Tensor, "c c"]
    classes: tuple[str, ...]
    border: Float[Tensor, " c"] | None = None

    @property
    def iou(self) -> dict[str, float]:
        """Intersection over union per class, 0-1; NaN for a class neither present nor predicted."""
        return dict(zip(self.classes, metrics.iou(self.confusion).tolist(), strict=True))

    @property
    def miou(self) -> float:
        """Mean IoU in percent, over the classes that are present or predicted."""
        return metrics.miou(self.confusion)

    @property
    def pixel_accuracy(self) -> float:
        """Share of scored pixels with the right class, in percent."""
        return metrics.pixel_accuracy(self.confusion)

    @property
    def mean_accuracy(self) -> float:
        """Mean over the classes present in the truth of the share of their pixels found, percent.

        For class c that share is n_cc / Σ_j n_cj.
        """
        return metrics.mean_accuracy(self.confusion)

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean IoU in percent, each class weighted by its share of the scored pixels."""
        return metrics.frequency_weighted_iou(self.confusion)

    @property
    def boundary_f(self) -> float | None:
        """Mean boundary F-score in percent, over the classes with a border, true or predicted.

        See :class:`emastudy.engine.metrics.BoundaryF`; None where it was not asked for.
        """
        return None if self.border is None else 100 * float(self.border.nanmean())

    @property
    def means(self) -> dict[str, float]:
        """All means by name, in percent; the boundary F-score only where it was asked for."""
        asked = {} if self.boundary_f is None else {"boundary_f": self.boundary_f}
        return metrics.summary(self.confusion) | asked


class _Prepared(Dataset[tuple[Tensor | list[Tensor], Tensor]]):
    def __init__(self, dataset: SegmentationDataset | CachedFeatures) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor | list[Tensor], Tensor]:
        if isinstance(self.dataset, CachedFeatures):
            maps, mask = self.dataset[index]
            return [views[0] for views in maps], mask
        image, mask = evaluation_transform(self.dataset)(*self.dataset[index])
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)


def evaluate(
    network: SegmentationNetwork,
    dataset: SegmentationDataset | CachedFeatures,
    config: RunConfig,
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: int = 0,
    boundary: bool = False,
    keep: Callable[[int, Int[Tensor, "h w"]], None] | None = None,
    description: str = "evaluate",
) -> Scores:
    """Score a network on a dataset, one image at a time; images may differ in size.

    The network's output stride is set to ``config.eval_output_stride`` and left there. Where
    torch.distributed is initialised every process calls this alike: each scores its share of the
    images, none twice, and all return the counts over the whole set. Where the run has a folder, a
    long evaluation that was stopped goes on when the same one is started again.

    Args:
        network: Network to score; it is left in evaluation mode.
        dataset: What to score it on: images, or features that its backbone gave for them.
        config: Gives precision and evaluation stride.
        runtime: Gives the number of loading processes, the run's folder, and the seconds between
            two times that counts are kept in it.
        scales: As ``flip`` and ``window``, see :func:`classify`.
        flip: Average over the image and its mirror image.
        window: Side of the sliding window, pixels; 0 = none.
        boundary: Score borders too, :attr:`Scores.boundary_f`.
        keep: Called with the index of every image and its predicted classes, on the CPU; not for
            images that were scored before a stop.
        description: Label of the progress bar.

    Raises:
        ValueError: Features together with other scales, flip or a window.
    """
    if isinstance(dataset, CachedFeatures) and (tuple(scales) != (1.0,) or flip or window):
        raise ValueError(
            "features are of whole images at one scale, unmirrored; to score with "
            f"scales={tuple(scales)}, flip={flip}, window={window} give the images themselves, "
            "config.load_dataset(split, runtime)"
        )
    device = next(network.parameters()).device
    network.eval()
    network.set_output_stride(config.eval_output_stride)
    classes = len(dataset.classes)
    confusion = MulticlassConfusionMatrix(classes, ignore_index=IGNORE)
    counts = MetricCollection({"confusion": confusion}, compute_groups=False)
    if boundary:
        counts.add_metrics({"border": metrics.BoundaryF(classes)})
    counts.to(device)
    prepared, (rank, processes) = _Prepared(dataset), _place()

    def identity() -> str:
        views = (tuple(scales), flip, window, boundary, keep is not None)
        what = (config.canonical_json(), dataset.classes, len(dataset), views)
        return fingerprint(network, *tree_leaves(prepared[0]), options=repr(what))

    partial = PartialCounts(
        counts,
        runtime.run_dir(config),
        identity,
        f"{rank}of{processes}",
        runtime.checkpoint_seconds,
    )
    share = range(rank, len(dataset), processes)
    start = partial.load(device)
    loader = DataLoader(Subset(prepared, share[start:]), batch_size=1, num_workers=runtime.workers)
    bar = tqdm(
        total=len(share),
        initial=start,
        desc=description,
        unit="image",
        leave=False,
        disable=rank > 0,
    )
    for done, (index, (inputs, mask)) in enumerate(
        zip(share[start:], loader, strict=True), start + 1
    ):
        if isinstance(inputs, Tensor):
            predicted = classify(
                network, inputs.to(device), config, runtime, scales=scales, flip=flip, window=window
            )
        else:
            maps = [x.to(device) for x in inputs]
            size = (mask.shape[-2], mask.shape[-1])
            predicted = forward_features(network, maps, size, config, runtime).argmax(dim=1)
        counts.update(predicted, mask.to(device))
        if keep:
            keep(index, predicted[0].cpu())
        bar.update()
        if done % _LOOK_EVERY == 0 and not bar.disable:
            so_far = metrics.miou(confusion.confmat.cpu())
            bar.set_postfix(mIoU=f"{so_far:.2f}", refresh=False)
        if done < len(share):
            partial.save(done)
    bar.close()
    total = counts.compute()  # over all processes
    partial.remove()
    border = total["border"].cpu() if boundary else None
    return Scores(total["confusion"].cpu().long(), dataset.classes, border)


@torch.inference_mode()
def classify(
    network: SegmentationNetwork,
    image: Float[Tensor, "b 3 h w"],
    config: RunConfig,
    runtime: Runtime,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: int = 0,
) -> Int[Tensor, "b h w"]:
    """Class of every pixel of normalised images, averaged over several views of them.

    The class is that of the largest mean probability, p = (1/V) Σ_v softmax(logits_v), over the
    scales and, with ``flip``, the mirror image at every scale. A view is resized bilinearly with
    antialiasing, as in training, and its probabilities are resized back alike.

    Args:
        network: Network in evaluation mode.
        image: (B, 3, H, W).
        config: Gives the precision.
        runtime: Gives the device.
        scales: Factors of height and width, ``MULTI_SCALE`` for instance.
        flip: Whether to add mirror images.
        window: Side of the square windows, pixels, that slide over a view larger than one; they
            overlap by a third or more and probabilities are averaged where they do. 0 = the
            network sees every view whole. The crop size of training suits.

    Raises:
        ValueError: No scale, one that is not positive, or a negative window.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales are {scales}; expected positive factors, at least one")
    if window < 0:
        raise ValueError(f"window is {window}; expected a side in pixels, or 0 for none")
    size = (image.shape[-2], image.shape[-1])
    if tuple(scales) == (1.0,) and not flip and not 0 < window < max(size):
        return forward(network, image, config, runtime).argmax(dim=1)  # no softmax is needed
    total: Tensor | None = None
    for scale in scales:
        scaled = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        view = _resized(image, scaled)
        for mirrored in (False, True) if flip else (False,):
            seen = view.flip(-1) if mirrored else view
            probabilities = _probabilities(network, seen, config, runtime, window)
            probabilities = probabilities.flip(-1) if mirrored else probabilities
            probabilities = _resized(probabilities, size)
            total = probabilities if total is None else total.add_(probabilities)
    assert total is not None  # there is a scale
    return total.argmax(dim=1)


def _resized(image: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c H W"]:
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def _probabilities(
    network: SegmentationNetwork,
    image: Float[Tensor, "b 3 h w"],
    config: RunConfig,
    runtime: Runtime,
    window: int,
) -> Float[Tensor, "b c h w"]:
    """Softmax of the logits, averaged over windows where the image is larger than one."""
    height, width = image.shape[-2:]
    if not 0 < window < max(height, width):
        return forward(network, image, config, runtime).softmax(dim=1)
    total: Tensor | None = None
    times = image.new_zeros(height, width)
    for top in _starts(height, window):
        for left in _starts(width, window):
            place = (..., slice(top, top + window), slice(left, left + window))
            part = forward(network, image[place], config, runtime).softmax(dim=1)
            if total is None:
                total = part.new_zeros(*part.shape[:2], height, width)
            total[place] += part
            times[place] += 1
    assert total is not None  # there is a window
    return total / times


def _starts(side: int, window: int) -> Iterator[int]:
    """First pixels of windows that cover a side evenly and overlap by a third or more."""
    steps = max(0, math.ceil((side - window) / (window - window // 3)))
    return (round(step * (side - window) / max(1, steps)) for step in range(steps + 1))


def _place() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


@torch.inference_mode()
def forward(
    network: SegmentationNetwork,
    image: Float[Tensor, "b 3 h w"],
    config: RunConfig,
    runtime: Runtime,
) -> Float[Tensor, "b c h w"]:
    """Logits of normalised images, padded to 8k+1 a side for the pass, see ``pad_to_grid``."""
    height, width = image.shape[-2:]
    padded = pad_to_grid(image).contiguous(memory_format=torch.channels_last)
    dtype = runtime.autocast_dtype(config)
    with torch.autocast(image.device.type, dtype, enabled=dtype is not None):
        logits: Tensor = network(padded)
    return logits[..., :height, :width]


@torch.inference_mode()
def forward_features(
    network: SegmentationNetwork,
    maps: list[Tensor],
    size: tuple[int, int],
    config: RunConfig,
    runtime: Runtime,
) -> Float[Tensor, "b c h w"]:
    """The same from feature maps of the padded images, see ``evaluation_features``.

    Args:
        network: Its head alone is run.
        maps: The feature maps that the head reads.
        size: Height and width of the image before padding.
        config: Gives the precision.
        runtime: Gives the precision.
    """
    dtype = runtime.autocast_dtype(config)
    with torch.autocast(maps[0].device.type, dtype, enabled=dtype is not None):
        small: Tensor = network(maps)
    height, width = size
    padded = (height + -(height - 1) % 8, width + -(width - 1) % 8)
    logits = F.interpolate(small, size=padded, mode="bilinear", align_corners=True)
    return logits[..., :height, :width]


def predict(
    network: SegmentationNetwork,
    image: Integer[Tensor, "3 h w"],
    dataset: type[SegmentationDataset] | SegmentationDataset,
    config: RunConfig,
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: int = 0,
) -> Int[Tensor, "h w"]:
    """Class index per pixel of one image.

    Args:
        network: Network in evaluation mode.
        image: (3, H, W) uint8 RGB.
        dataset: Gives mean and standard deviation that the network was trained with.
        config: Gives the precision.
        runtime: Gives the device.
        scales: As ``flip`` and ``window``, see :func:`classify`.
        flip: Average over the image and its mirror image.
        window: Side of the sliding window, pixels; 0 = none.
    """
    device = next(network.parameters()).device
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (dataset.mean, dataset.std))
    normalised = (image.to(device).float() / 255 - mean) / std
    predicted = classify(
        network, normalised[None], config, runtime, scales=scales, flip=flip, window=window
    )
    return predicted[0].cpu()
