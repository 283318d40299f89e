"""The loss: cross-entropy over labelled pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from emastudy.datasets import IGNORE


def segmentation_loss(logits: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
    """Cross-entropy averaged over the pixels that are not ignored (255); 0 where all are.

    Args:
        logits: (B, C, H, W); if smaller than the mask they are upsampled bilinearly with aligned
            corners, as the network does.
        mask: (B, H, W) int64.
        valid: What to divide by instead; for a part of a batch, the whole's pixels not ignored.
    """
    if logits.shape[-2:] == mask.shape[-2:]:
        total = _total(logits, mask)
    else:
        # Image by image, so that the large maps stay in the processor's caches, and with bilinear
        # interpolation as the two small matrix products that it is: three times as fast.
        rows = _enlargement(logits.shape[2], mask.shape[1], logits)
        columns = _enlargement(logits.shape[3], mask.shape[2], logits)
        total = logits.new_zeros(())
        for small, labels in zip(logits.contiguous(), mask, strict=True):
            large = (rows @ small @ columns.mT)[None]
            total = total + _total(large, labels[None])
    return total / ((mask != IGNORE).sum() if valid is None else valid).clamp_min(1)


def _total(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy summed over the pixels that are not ignored."""
    if torch.are_deterministic_algorithms_enabled():
        # On GPUs torch adds up in no fixed order, and refuses to where one is asked for.
        return F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="none").sum()
    return F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="sum")


def _enlargement(n: int, m: int, like: Tensor) -> Tensor:
    """(m, n): linear interpolation with aligned corners from n samples to m, as a matrix."""
    unit = torch.eye(n, dtype=like.dtype, device=like.device)
    return F.interpolate(unit[None], size=m, mode="linear", align_corners=True)[0].mT
