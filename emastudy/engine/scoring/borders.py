"""The boundary F-score, which wants images, not only a confusion matrix."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torchmetrics import Metric

from emastudy.datasets import IGNORE


class BoundaryF(Metric):
    """F-score of class borders, per class, averaged over the images that have such a border.

    The border of class c in a map is the set of its pixels of class c with a 4-neighbour inside
    the image that is not of class c (an ignored one, say). With precision P, the share of the
    predicted border's pixels within θ of the true border, and recall R, the share of the true
    border's pixels within θ of the predicted one, F = 2PR / (P + R), and 0 where nothing is met.
    Distances are Euclidean between pixel centres and θ = ⌈0.0075 · diagonal⌉ pixels: 5 for a VOC
    photograph of 500×375.

    Where the truth is ignored a prediction may be right but not wrong: a predicted border pixel
    there counts if it is within θ of the true border (VOC draws an ignored band around objects,
    in whose middle the border belongs), and else not at all.

    ``compute()`` gives (classes,) values 0-1; NaN for a class without a border, true or
    predicted, in all images.

    Source: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC
    2013; θ rounded up to whole pixels as by Perazzi et al., CVPR 2016. The rule for ignored pixels
    is ours.
    """

    total: Tensor
    images: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for name, dtype in (("total", torch.float64), ("images", torch.int64)):
            self.add_state(name, torch.zeros(num_classes, dtype=dtype), dist_reduce_fx="sum")

    def update(self, predicted: Integer[Tensor, "b h w"], truth: Integer[Tensor, "b h w"]) -> None:
        """Count images in; values of ``truth`` are classes or 255, ignored."""
        radius = tolerance(*truth.shape[-2:])
        for guess, mask in zip(predicted, truth, strict=True):
            seen = torch.unique(torch.stack([guess, mask]))
            classes = seen[seen < self.num_classes]
            borders = [_border(labels == classes[:, None, None]) for labels in (guess, mask)]
            near_guess, near_mask = (_dilated(border, radius) for border in borders)
            hits = (borders[0] & near_mask).sum((1, 2)).double()
            met = (borders[1] & near_guess).sum((1, 2)).double()
            counted = (borders[0] & (near_mask | (mask != IGNORE))).sum((1, 2))
            true = borders[1].sum((1, 2))
            precision, recall = hits / counted, met / true
            score = 2 * precision * recall / (precision + recall)
            present = counted + true > 0
            self.total[classes] += torch.where(present, score.nan_to_num(), 0.0)
            self.images[classes] += present

    def compute(self) -> Float[Tensor, " c"]:
        """Mean over images per class."""
        return self.total / self.images


def tolerance(height: int, width: int) -> int:
    """θ of :class:`BoundaryF` for an image's size, in pixels."""
    return math.ceil(0.0075 * math.hypot(height, width))


def _border(regions: Bool[Tensor, "c h w"]) -> Bool[Tensor, "c h w"]:
    """A region's pixels with a 4-neighbour outside of it; the image's edge is no border."""
    border = torch.zeros_like(regions)
    rows = regions[:, 1:] != regions[:, :-1]
    columns = regions[:, :, 1:] != regions[:, :, :-1]
    border[:, 1:] |= rows
    border[:, :-1] |= rows
    border[:, :, 1:] |= columns
    border[:, :, :-1] |= columns
    return border & regions


def _dilated(border: Bool[Tensor, "c h w"], radius: int) -> Bool[Tensor, "c h w"]:
    """Pixels within ``radius`` of the border: a disk's rows, each a sliding maximum, united."""
    near = torch.zeros_like(border)
    padded = F.pad(border, (0, 0, radius, radius)).float()
    height = border.shape[1]
    for row in range(-radius, radius + 1):
        half = math.isqrt(radius**2 - row**2)
        shifted = padded[:, radius + row : radius + row + height]
        near |= F.max_pool2d(shifted, (1, 2 * half + 1), stride=1, padding=(0, half)) > 0
    return near
