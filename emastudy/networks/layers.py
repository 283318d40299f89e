"""The layers that every head is made of.

Floor: networks (imports torch).
"""

import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn_relu(
    in_channels: int, channels: int, kernel_size: int = 3, dilation: int = 1
) -> nn.Sequential:
    """Conv without bias, batch norm, ReLU; the resolution stays."""
    padding = dilation * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(
            in_channels, channels, kernel_size, padding=padding, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def classifier(channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Dropout of whole channels, then a 1×1 conv to class logits."""
    return nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear with aligned corners, to the height and width of ``reference``."""
    return F.interpolate(x, size=reference.shape[-2:], mode="bilinear", align_corners=True)
