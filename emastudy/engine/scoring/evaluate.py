"""Scoring: one confusion matrix over a whole set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix
from tqdm.auto import tqdm

from emastudy.datasets import IGNORE, SegmentationDataset, evaluation_transform
from emastudy.engine.features.cache import CachedFeatures
from emastudy.engine.scoring import metrics
from emastudy.engine.scoring.predict import Views, classify, forward_features
from emastudy.networks import evaluation_mode

# Images between two updates of the progress bar's mIoU.
_LOOK_EVERY = 10


@dataclass(frozen=True)
class Scores:
    """Counts over a set, and what follows from them, see :mod:`emastudy.engine.scoring.metrics`.

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

        See :class:`emastudy.engine.scoring.metrics.BoundaryF`; None where it was not asked for.
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
    network: nn.Module,
    dataset: SegmentationDataset | CachedFeatures,
    *,
    views: Views = Views(),  # noqa: B008 - frozen
    output_stride: int | None = None,
    dtype: torch.dtype | None = None,
    workers: int = 0,
    boundary: bool = False,
    keep: Callable[[int, Int[Tensor, "h w"]], None] | None = None,
    description: str = "evaluate",
) -> Scores:
    """Score a network on a dataset, one image at a time; images may differ in size.

    Where torch.distributed is initialised every process calls this alike: each scores its share of
    the images, none twice, and all return the counts over the whole set.

    Args:
        network: Any network of images to logits, on its device; it is left as it was.
        dataset: What to score it on: images, or features that its backbone gave for them.
        views: What each prediction is averaged over.
        output_stride: To score at; None = the network's own. For networks of a run take this and
            the next two from ``runtime.scoring(config)``.
        dtype: Type that matrix products are computed in under autocast; None = float32.
        workers: Processes that load images; 0 = this one.
        boundary: Score borders too, :attr:`Scores.boundary_f`.
        keep: Called with the index of every image and its predicted classes, on the CPU.
        description: Label of the progress bar.

    Raises:
        ValueError: Features together with several views.
    """
    predicted = _predictor(network, dataset, views, dtype)
    device = next(network.parameters()).device
    classes = len(dataset.classes)
    confusion = MulticlassConfusionMatrix(classes, ignore_index=IGNORE)
    counts = MetricCollection({"confusion": confusion}, compute_groups=False)
    if boundary:
        counts.add_metrics({"border": metrics.BoundaryF(classes)})
    counts.to(device)
    rank, processes = _place()
    share = range(rank, len(dataset), processes)
    loader = DataLoader(Subset(_Prepared(dataset), share), batch_size=1, num_workers=workers)
    bar = tqdm(
        zip(share, loader, strict=True),
        total=len(share),
        desc=description,
        unit="image",
        leave=False,
        disable=rank > 0,
    )
    with evaluation_mode(network, output_stride):
        for done, (index, (inputs, mask)) in enumerate(bar, 1):
            found = predicted(inputs, mask)
            counts.update(found, mask.to(device))
            if keep:
                keep(index, found[0].cpu())
            if done % _LOOK_EVERY == 0 and not bar.disable:
                so_far = metrics.miou(confusion.confmat.cpu())
                bar.set_postfix(mIoU=f"{so_far:.2f}", refresh=False)
    total = counts.compute()  # over all processes
    border = total["border"].cpu() if boundary else None
    return Scores(total["confusion"].cpu().long(), dataset.classes, border)


def _predictor(
    network: nn.Module,
    dataset: SegmentationDataset | CachedFeatures,
    views: Views,
    dtype: torch.dtype | None,
) -> Callable[[Any, Tensor], Int[Tensor, "b h w"]]:
    """What makes classes of an entry's inputs and its mask, which gives the size."""
    device = next(network.parameters()).device

    def of_image(image: Tensor, mask: Tensor) -> Tensor:
        return classify(network, image.to(device), views, dtype)

    def of_features(maps: list[Tensor], mask: Tensor) -> Tensor:
        size = (mask.shape[-2], mask.shape[-1])
        logits = forward_features(network, [x.to(device) for x in maps], size, dtype)
        return logits.argmax(dim=1)

    if not isinstance(dataset, CachedFeatures):
        return of_image
    if not views.single:
        raise ValueError(
            f"features are of whole images at one scale, unmirrored; to score with {views} give "
            "the images themselves, load_dataset(config, split, runtime)"
        )
    return of_features


def _place() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
