"""Metrics: what follows from a confusion matrix.

A confusion matrix n holds pixel counts over a whole set, n[i, j] those of class i predicted as j;
ignored pixels are in none. Every function of it is pure, so that it serves a record's counts
(``torch.tensor(record.confusion)``) as well as a fresh evaluation's. A value per class is 0-1 and
NaN where it is not defined; a mean is in percent, over the classes where it is.
"""

import base64
import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from emastudy.datasets import IGNORE


def iou(confusion: Int[Tensor, "*b c c"]) -> Float[Tensor, "*b c"]:
    """Intersection over union per class, n_cc / (Σ_j n_cj + Σ_i n_ic - n_cc).

    NaN for a class neither present in the truth nor predicted. Of several matrices at once, too.
    """
    hits = confusion.diagonal(dim1=-2, dim2=-1)
    return hits.double() / (confusion.sum(-2) + confusion.sum(-1) - hits)


def miou(confusion: Int[Tensor, "c c"]) -> float:
    """Mean IoU in percent, over the classes that are present or predicted."""
    return 100 * float(iou(confusion).nanmean())


def class_accuracy(confusion: Int[Tensor, "c c"]) -> Float[Tensor, " c"]:
    """Share of a class's pixels predicted as such, n_cc / Σ_j n_cj; NaN for an absent class."""
    return confusion.diagonal().double() / confusion.sum(1)


def mean_accuracy(confusion: Int[Tensor, "c c"]) -> float:
    """Mean of :func:`class_accuracy` in percent, over the classes present in the truth.

    A class predicted but not present has no accuracy, unlike an IoU, which is 0.
    """
    return 100 * float(class_accuracy(confusion).nanmean())


def pixel_accuracy(confusion: Int[Tensor, "c c"]) -> float:
    """Share of scored pixels with the right class, Σ_c n_cc / Σ_ij n_ij, in percent."""
    return 100 * float(confusion.diagonal().sum() / confusion.sum())


def frequency_weighted_iou(confusion: Int[Tensor, "c c"]) -> float:
    """Mean IoU weighted by the classes' pixels, Σ_c (Σ_j n_cj) IoU_c / Σ_ij n_ij, in percent.

    Over the classes present in the truth: the others have no weight.

    Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015.
    """
    frequency = confusion.sum(1).double() / confusion.sum()
    return 100 * float((frequency * iou(confusion).nan_to_num()).sum())


def summary(confusion: Int[Tensor, "c c"]) -> dict[str, float]:
    """All means of a confusion matrix by name, in percent."""
    means = (miou, pixel_accuracy, mean_accuracy, frequency_weighted_iou)
    return {mean.__name__: mean(confusion) for mean in means}


def table(iou: Mapping[str, float | None], means: Mapping[str, float]) -> str:
    """Scores as text, in percent.

    Args:
        iou: IoU per class, 0-1; None or NaN for a class neither present nor predicted.
    """
    rows = [
        f"{name:<16}{'absent' if value is None or math.isnan(value) else f'{100 * value:6.2f}'}"
        for name, value in iou.items()
    ]
    first = f"mIoU {means['miou']:.2f} %, pixel accuracy {means['pixel_accuracy']:.2f} %"
    rest = [name for name in means if name not in ("miou", "pixel_accuracy")]
    others = ", ".join(f"{name.replace('_', ' ')} {means[name]:.2f} %" for name in rest)
    return "\n".join(["IoU per class, %", *rows, "", first, *([others] if others else [])])


def count_image(
    index: int, predicted: Integer[Tensor, "h w"], truth: Integer[Tensor, "h w"], num_classes: int
) -> Int[Tensor, "n 3"]:
    """What one image has of a confusion matrix of c classes: its entries above zero.

    ``truth`` has classes, or 255, ignored.

    Returns:
        A row an entry: the image's index, i · c + j, and n[i, j]. See :func:`matrices`.
    """
    # Here and not above: torchmetrics takes longer to import than torch.
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    counts = multiclass_confusion_matrix(predicted, truth, num_classes, ignore_index=IGNORE)
    cells = counts.flatten().nonzero()[:, 0]
    return torch.stack([torch.full_like(cells, index), cells, counts.flatten()[cells]], dim=1)


def matrices(
    entries: Int[Tensor, "n 3"], num_classes: int, images: int = 0
) -> Int[Tensor, "m c c"]:
    """The confusion matrix of every image, from all entries of :func:`count_image`.

    Args:
        images: How many there are; 0 = up to the last that has an entry.
    """
    image, cell, count = entries.unbind(1)
    images = images or (int(image.max()) + 1 if len(image) else 0)
    dense = entries.new_zeros(images, num_classes**2)
    dense[image, cell] = count
    return dense.view(images, num_classes, num_classes)


def pack(entries: Int[Tensor, "n 3"]) -> str:
    """Entries of :func:`count_image` as text: columns of 32 bits, deflated, in base 64.

    The indices of images are stored as steps, which repeat and so cost next to nothing.
    """
    columns = entries.T.numpy().astype("<i4")
    columns[0] = np.diff(columns[0], prepend=0)
    return base64.b64encode(zlib.compress(columns.tobytes(), 9)).decode("ascii")


def unpack(text: str) -> Int[Tensor, "n 3"]:
    """What :func:`pack` was given; a ValueError if it is no such text."""
    try:
        columns = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i4").reshape(3, -1)
    except zlib.error as error:
        raise ValueError(f"counts by image cannot be unpacked ({error})") from error
    columns = columns.astype(np.int64)
    columns[0] = columns[0].cumsum()
    return torch.from_numpy(columns.T.copy())
