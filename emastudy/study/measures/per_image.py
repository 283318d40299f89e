"""Which images a network gets wrong: predictions of a whole set, and scores image by image."""

import numpy as np
import pandas as pd
import torch

from emastudy.datasets import SegmentationDataset
from emastudy.engine import RunConfig, Runtime, evaluate
from emastudy.engine.scoring import metrics
from emastudy.networks import SegmentationNetwork


def predictions(
    network: SegmentationNetwork, dataset: SegmentationDataset, config: RunConfig, runtime: Runtime
) -> tuple[list[np.ndarray], list[float]]:
    """The predicted classes of every image, single scale, (H, W) uint8 each, and its own mIoU.

    In percent, over the classes in its truth or its prediction; NaN without a scored pixel.
    """
    found: dict[int, np.ndarray] = {}

    def keep(index: int, classes: torch.Tensor) -> None:
        found[index] = classes.numpy().astype(np.uint8)

    how = runtime.scoring(config)
    scores = evaluate(network, dataset, **how, keep=keep, description="predict")
    assert scores.by_image is not None
    counts = metrics.matrices(scores.by_image, len(dataset.classes), len(dataset))
    return [found[index] for index in range(len(dataset))], [metrics.miou(one) for one in counts]


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
