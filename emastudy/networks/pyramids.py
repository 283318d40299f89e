"""Heads that pool context at several scales: DeepLabV3, DeepLabV3+ and PSPNet."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emastudy import options
from emastudy.errors import InputError
from emastudy.networks.layers import Decoder, classifier, conv_bn_relu, resize_like
from emastudy.options import NonNegativeInt, PositiveInt, Probability


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one 1×1 conv, three dilated 3×3 and the image's mean.

    Their maps, ``channels`` each, are concatenated and projected to ``channels`` by a 1×1 conv.

    Args:
        rate: Smallest dilation at output stride 16; the others are twice and three times that.
            The rates keep their meaning in image pixels, so they double at stride 8.
        image_pooling: Whether the image's mean is among the branches.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation",
    arXiv 1706.05587, Section 3.3.
    """

    @options.checked
    def __init__(
        self,
        in_channels: PositiveInt,
        channels: PositiveInt = 256,
        rate: PositiveInt = 6,
        image_pooling: bool = True,
    ) -> None:
        super().__init__()
        self.rate = rate
        self.point = conv_bn_relu(in_channels, channels, 1)
        self.atrous = nn.ModuleList(
            conv_bn_relu(in_channels, channels, 3, factor * rate) for factor in (1, 2, 3)
        )
        self.image = conv_bn_relu(in_channels, channels, 1) if image_pooling else None
        self.project = conv_bn_relu((5 if image_pooling else 4) * channels, channels, 1)

    def set_output_stride(self, output_stride: int) -> None:
        """Fit the rates to the stride of the feature map; weights stay.

        Raises:
            InputError: A rate would not be a whole number of feature pixels.
        """
        if self.rate * 16 % output_stride:
            raise InputError(
                f"rate is {self.rate}: at output stride {output_stride} that is "
                f"{self.rate * 16 / output_stride} feature pixels; use a multiple of "
                f"{output_stride // 16}"
            )
        for factor, branch in enumerate(self.atrous, 1):
            rate = factor * self.rate * 16 // output_stride
            branch[0].dilation = branch[0].padding = (rate, rate)  # type: ignore[index]

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """(B, in_channels, h, w) to (B, channels, h, w)."""
        maps = [self.point(features), *(branch(features) for branch in self.atrous)]
        if self.image is not None:
            mean = self.image(features.mean(dim=(2, 3), keepdim=True))
            maps.append(mean.expand_as(maps[0]))
        projected: Tensor = self.project(torch.cat(maps, dim=1))
        return projected


class DeepLabV3Head(nn.Module):
    """:class:`ASPP` on the last feature map → 1×1 classifier.

    With ``detail_channels``, DeepLabV3+'s decoder stands between the two, and takes its details
    from the first feature map.

    Source: Chen et al., arXiv 1706.05587, and, for the decoder, ECCV 2018, Section 3.1. Differs
    from torchvision's: no further 3×3 conv (the EMANet paper's Table 1 counts none), and rates that
    follow the stride.
    """

    @options.checked
    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: PositiveInt,
        *,
        channels: PositiveInt = 256,
        rate: PositiveInt = 6,
        image_pooling: bool = True,
        detail_channels: NonNegativeInt = 0,
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__()
        self.aspp = ASPP(in_channels[-1], channels, rate, image_pooling)
        details = (channels, in_channels[0], detail_channels)
        self.decoder = Decoder(*details) if detail_channels else None
        self.levels = (0, -1) if detail_channels else (-1,)
        self.classifier = classifier(channels, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes, h, w)."""
        pooled = self.aspp(features[-1])
        if self.decoder is not None:
            pooled = self.decoder(pooled, features[0])
        logits: Tensor = self.classifier(pooled)
        return logits


class PyramidPooling(nn.Module):
    """The feature map beside its means over 1×1, 2×2, 3×3 and 6×6 cells.

    Each grid of means goes through a 1×1 conv to in_channels / 4 and is enlarged to the map's
    size; the output has 2·in_channels.

    Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, Section 3.2.
    """

    BINS = (1, 2, 3, 6)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            conv_bn_relu(in_channels, in_channels // len(self.BINS), 1) for _ in self.BINS
        )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """(B, in_channels, h, w) to (B, 2·in_channels, h, w)."""
        pooled = (
            resize_like(branch(F.adaptive_avg_pool2d(features, bins)), features)
            for bins, branch in zip(self.BINS, self.branches, strict=True)
        )
        return torch.cat([features, *pooled], dim=1)


class PSPHead(nn.Module):
    """Pyramid pooling on the last feature map → 3×3 conv to ``channels`` → 1×1 classifier.

    Raises:
        InputError: The last feature map's channels are no multiple of 4.

    Source: Zhao et al., CVPR 2017; no auxiliary loss.
    """

    @options.checked
    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: PositiveInt,
        *,
        channels: PositiveInt = 512,
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__()
        if in_channels[-1] % 4:
            raise InputError(
                f"the last feature map has {in_channels[-1]} channels; pyramid pooling quarters "
                "them: use a backbone with a multiple of 4"
            )
        self.pooling = PyramidPooling(in_channels[-1])
        self.fuse = conv_bn_relu(2 * in_channels[-1], channels)
        self.classifier = classifier(channels, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes, h, w)."""
        logits: Tensor = self.classifier(self.fuse(self.pooling(features[-1])))
        return logits
