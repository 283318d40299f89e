"""Which images a network gets wrong: predictions of a whole set, and scores image by image."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from emastudy.datasets import IGNORE, SegmentationDataset
from emastudy.engine import RunConfig, Runtime, evaluate
from emastudy.engine.scoring import metrics
from emastudy.networks import SegmentationNetwork


def predictions(
    network: SegmentationNetwork, dataset: SegmentationDataset, config: RunConfig, runtime: Runtime
) -> list[np.ndarray]:
    """The predicted classes of every image, single scale: (H, W) uint8 each, in order."""
    found: dict[int, np.ndarray] = {}

    def keep(index: int, classes: torch.Tensor) -> None:
        found[index] = classes.numpy().astype(np.uint8)

    evaluate(network, dataset, **runtime.scoring(config), keep=keep, description="predict")
    return [found[index] for index in range(len(dataset))]


def score_images(
    dataset: SegmentationDataset, guesses: Mapping[str, Sequence[np.ndarray]]
) -> pd.DataFrame:
    """The mIoU of every image by itself, over the classes that are in its truth or its prediction.

    Args:
        guesses: Method → predicted classes of every image, see :func:`predictions`.

    Returns:
        Index = image, one column a method, percent; NaN for an image without a scored pixel.
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    classes = len(dataset.classes)
    rows = []
    for index in range(len(dataset)):
        mask = dataset[index][1].as_subclass(torch.Tensor).long()
        counts = {
            method: multiclass_confusion_matrix(
                torch.from_numpy(predicted[index]).long(), mask, classes, ignore_index=IGNORE
            )
            for method, predicted in guesses.items()
        }
        rows.append({method: metrics.miou(table) for method, table in counts.items()})
    return pd.DataFrame(rows)


def worst(scores: pd.Series, count: int, *, apart: int = 1) -> list[int]:
    """The images with the lowest scores, worst first.

    Args:
        scores: Index = image; NaN is passed over.
        apart: Least distance between the numbers of two chosen images: neighbouring frames of a
            video fail alike, and one of them says it.
    """
    chosen: list[int] = []
    for index in scores.dropna().sort_values(kind="stable").index:
        if len(chosen) < count and all(abs(index - other) >= apart for other in chosen):
            chosen.append(int(index))
    return chosen
