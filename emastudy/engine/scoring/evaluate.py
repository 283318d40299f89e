"""Scoring: one confusion matrix over a whole set."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from emastudy.datasets import (
    IGNORE,
    SegmentationDataset,
    View,
    evaluation_transform,
    whole_image_transform,
)
from emastudy.engine.build import load_dataset
from emastudy.engine.config import RunConfig
from emastudy.engine.features import CachedFeatures, HeadNetwork, scoring_features
from emastudy.engine.loading import loading_errors, one_by_one
from emastudy.engine.runtime import Runtime
from emastudy.engine.scoring import metrics
from emastudy.engine.scoring.predict import Views, classify
from emastudy.errors import InputError
from emastudy.networks import SegmentationNetwork, evaluation_mode

_LOOK_EVERY = 10  # images between two updates of the progress bar's mIoU
# Takes the index of an image and its predicted classes.
Keep = Callable[[int, Int[Tensor, "h w"]], None]


@dataclass(frozen=True)
class Scores:
    """Counts over a set, and what follows from them, see :mod:`emastudy.engine.scoring.metrics`."""

    #: (classes, classes) int64; entry (i, j) counts pixels of class i predicted as j. Ignored
    #: pixels are in none.
    confusion: Int[Tensor, "c c"]
    classes: tuple[str, ...]  #: Class names.
    #: (classes,) boundary F-score per class, 0-1, NaN for a class without borders; None where it
    #: was not asked for.
    border: Float[Tensor, " c"] | None = None
    #: What every image has of ``confusion``, see ``metrics.count_image``; None where only the
    #: counts over the set are known.
    by_image: Int[Tensor, "n 3"] | None = None

    @property
    def iou(self) -> dict[str, float | None]:
        """Intersection over union per class, 0-1; None for one neither present nor predicted."""
        values = metrics.iou(self.confusion).tolist()
        known = (None if math.isnan(value) else value for value in values)
        return dict(zip(self.classes, known, strict=True))

    @property
    def miou(self) -> float:
        """Mean IoU in percent, over the classes that are present or predicted."""
        return metrics.miou(self.confusion)

    @property
    def means(self) -> dict[str, float]:
        """Means by name, in percent: those of ``metrics.summary``, and "boundary_f" if asked for.

        The boundary F-score is a mean over the classes with a border, true or predicted, see
        :class:`emastudy.engine.scoring.borders.BoundaryF`.
        """
        border = {} if self.border is None else {"boundary_f": 100 * float(self.border.nanmean())}
        return metrics.summary(self.confusion) | border


def evaluate(
    network: nn.Module,
    dataset: SegmentationDataset,
    *,
    views: Views = Views(),  # noqa: B008 - frozen
    output_stride: int | None = None,
    dtype: torch.dtype | None = None,
    workers: int = 0,
    boundary: bool = False,
    square: int = 0,
    keep: Keep | None = None,
    description: str = "evaluate",
) -> Scores:
    """Score a network on a dataset, one image at a time; images may differ in size.

    Where torch.distributed is initialised every process calls this alike: each scores its share of
    the images, none twice, and all return the counts over the whole set.

    Args:
        network: Any network of images to logits, on its device; it is left as it was.
        views: What each prediction is averaged over.
        output_stride: To score at; None = the network's own. For networks of a run take this and
            the next two from ``runtime.scoring(config)``.
        dtype: Type that matrix products are computed in under autocast; None = float32.
        workers: Processes that load images; 0 = this one.
        boundary: Score borders too, see :attr:`Scores.means`.
        square: Side of a square that every image is fitted into, as those that heads on frozen
            features learn from (``datasets.whole_image_transform``); 0 = as they are.
        keep: Called with the index of every image and its predicted classes, on the CPU.
        description: Label of the progress bar.
    """
    device = next(network.parameters()).device

    def predicted(image: Tensor, mask: Tensor) -> Tensor:
        return classify(network, image[None].to(device), views, dtype, len(dataset.classes))

    fit = whole_image_transform(dataset, square) if square else evaluation_transform(dataset)
    prepare = partial(_prepared, fit)
    with evaluation_mode(network, output_stride):
        return _count(dataset, prepare, predicted, device, workers, description, boundary, keep)


def score(
    network: SegmentationNetwork,
    config: RunConfig,
    runtime: Runtime,
    *,
    split: str = "",
    indices: Sequence[int] | None = None,
    change: Callable[[Tensor, int], Tensor] | None = None,
    views: Views = Views(),  # noqa: B008 - frozen
    square: int = 0,
    description: str = "evaluate",
) -> Scores:
    """Score the network of a run as the run is scored, see :func:`evaluate`.

    Features of a frozen backbone are read where they are cached; changed images and several views
    are sent through the whole network.

    Args:
        network: The run's network, on its device; it is left as it was.
        split: Default ``config.eval_split``.
        indices: Which of the images; None = all.
        change: Called with every image and its index before it is scored, see ``datasets.View``.
        views: What each prediction is averaged over.
        square: As in :func:`evaluate`.
        description: Label of the progress bar.

    Raises:
        InputError: No pixel is labelled.
    """
    split = split or config.eval_split
    dataset = load_dataset(config, split, runtime)
    features = None
    if views.single and change is None:
        features = scoring_features(network, dataset, split, config, runtime, indices, square)
    if features is None:
        view = View(dataset, indices, change)
        options = runtime.scoring(config)
        scores = evaluate(
            network, view, **options, views=views, square=square, description=description
        )
        return _labelled(scores, split)

    head, device = HeadNetwork(network), next(network.parameters()).device
    dtype = runtime.autocast_dtype(config)

    def predicted(maps: list[Tensor], mask: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype is not None), torch.inference_mode():
            size = (mask.shape[0], mask.shape[1])
            logits: Tensor = head([x.to(device) for x in maps], size, config.eval_output_stride)
        return logits.argmax(dim=1)

    with evaluation_mode(network, config.eval_output_stride):
        scores = _count(features, _owned, predicted, device, runtime.workers, description)
    return _labelled(scores, split)


def _labelled(scores: Scores, split: str) -> Scores:
    """The scores of a split, if it has any pixel that can be scored."""
    if not scores.confusion.any():
        raise InputError(
            f"no pixel of split {split!r} belongs to a class, all are {IGNORE}, ignored: it can be "
            "predicted, not scored; choose another split, or fix its masks"
        )
    return scores


def _count(
    dataset: SegmentationDataset | CachedFeatures,
    prepare: Callable[[Any], tuple[Any, Tensor]],
    predicted: Callable[[Any, Tensor], Int[Tensor, "1 h w"]],
    device: torch.device,
    workers: int,
    description: str,
    boundary: bool = False,
    keep: Keep | None = None,
) -> Scores:
    """Count what is predicted for a set, by all processes together, against what is true."""
    classes = len(dataset.classes)
    border = None
    if boundary:
        from emastudy.engine.scoring.borders import BoundaryF

        border = BoundaryF(classes).to(device)
    entries = [torch.zeros(0, 3, dtype=torch.int64)]
    rank, processes = _place()
    share = range(rank, len(dataset), processes)
    samples = zip(share, one_by_one(dataset, share, prepare, workers), strict=True)
    bar = tqdm(samples, description, len(share), leave=False, unit="image", disable=rank > 0)
    with loading_errors(workers):
        for done, (index, (inputs, mask)) in enumerate(bar, 1):
            found, truth = predicted(inputs, mask), mask[None].to(device)
            entries.append(metrics.count_image(index, found[0], truth[0], classes).cpu())
            if border:
                border.update(found, truth)
            if keep:
                keep(index, found[0].cpu())
            if done % _LOOK_EVERY == 0 and not bar.disable:
                entries = [torch.cat(entries)]
                so_far = metrics.miou(_total(entries[0], classes))
                bar.set_postfix(mIoU=f"{so_far:.2f}", refresh=False)
    by_image = _of_all_processes(torch.cat(entries), processes)
    border_f = border.compute().cpu() if border else None
    return Scores(_total(by_image, classes), dataset.classes, border_f, by_image)


def _total(entries: Int[Tensor, "n 3"], classes: int) -> Int[Tensor, "c c"]:
    """The confusion matrix over all images."""
    counts = torch.zeros(classes**2, dtype=torch.int64)
    return counts.index_add_(0, entries[:, 1], entries[:, 2]).view(classes, classes)


def _of_all_processes(entries: Int[Tensor, "n 3"], processes: int) -> Int[Tensor, "m 3"]:
    """The entries of all processes, in the order of the images."""
    if processes == 1:
        return entries
    parts: list[Any] = [None] * processes
    torch.distributed.all_gather_object(parts, entries)
    every = torch.cat(parts)
    return every[every[:, 0].argsort(stable=True)]


def _prepared(transform: nn.Module, entry: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    """An image as networks take it, and its mask."""
    image, mask = (x.as_subclass(Tensor) for x in transform(*entry))
    return image, mask


def _owned(entry: tuple[list[Tensor], Tensor]) -> tuple[list[Tensor], Tensor]:
    """Feature maps of their own, of the image and not of its mirror image.

    Handing over a part of a mapped file would copy all of it.
    """
    maps, mask = entry
    return [x[:1].clone() for x in maps], mask


def _place() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
