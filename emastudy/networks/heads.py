"""Heads: a backbone's feature maps to class logits at the last map's resolution.

Floor: networks (imports torch).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from emastudy.networks.context import NonLocal
from emastudy.networks.emau import EMAU


class ContextHead(nn.Module):
    """3×3 conv to ``channels`` → context module → 1×1 classifier, on the last feature map.

    The networks compared differ in the context module alone: none (FCN), EMAU, non-local.

    Args:
        context: Makes the context module, called as ``context(channels, **options)``.
        in_channels: Channels of the backbone's feature maps; the last is used.
        num_classes: Number of logits.
        channels: Channels that the context module sees, the paper's C.
        dropout: Probability with which a whole channel is dropped before the classifier.
        options: The context module's own.

    Source: Li et al., ICCV 2019, Section 6.1; dropout from the released code, whose further 3×3
    conv after the unit is left out, as in the paper's Table 1.
    """

    def __init__(
        self,
        context: Callable[..., nn.Module],
        in_channels: Sequence[int],
        num_classes: int,
        *,
        channels: int = 512,
        dropout: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels[-1], channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.context = context(channels, **options)
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes, h, w)."""
        logits: Tensor = self.classifier(self.context(self.reduce(features[-1])))
        return logits


def no_context(channels: int) -> nn.Module:
    """FCN (Long et al., CVPR 2015): what the 3×3 conv sees is all there is."""
    return nn.Identity()


HEADS: dict[str, Callable[..., nn.Module]] = {
    "fcn": partial(ContextHead, no_context),
    "ema": partial(ContextHead, EMAU),
    "non_local": partial(ContextHead, NonLocal),
}
