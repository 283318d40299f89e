"""Units that the search of page 38 tried, and did not keep."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emastudy import EMAU
from emastudy.em import normalize


class Places(EMAU):
    """EMA on features that know where they are: X + W p, p a pixel's place, from -1 to 1 each way.

    A basis then is a kind of pixel in a part of the map. W, 2 to C channels, is learnt.
    """

    def __init__(self, channels: int, num_bases: int = 64, heads: int = 1) -> None:
        super().__init__(channels, num_bases, heads=heads, gradient="unrolled")
        self.conv1 = WithPlaces(self.conv1)


class WithPlaces(nn.Module):
    """A conv's output and W p."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.places = nn.Conv2d(2, conv.out_channels, 1, bias=False)
        nn.init.kaiming_normal_(self.places.weight, mode="fan_out")

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        down, across = (torch.linspace(-1, 1, size).to(features) for size in features.shape[2:])
        places = torch.stack(torch.meshgrid(down, across, indexing="ij"))[None]
        return self.conv(features) + self.places(places)


class Levels(EMAU):
    """EMA that starts from pooled levels of its image: means over it and its 2×3 and 3×3 cells.

    Pyramid pooling's means, of large parts of the map and of smaller ones, as 16 starting bases.
    """

    def __init__(self, channels: int, num_bases: int = 16, heads: int = 1) -> None:
        super().__init__(channels, num_bases, heads=heads, maintenance="grid", gradient="unrolled")

    def _start(self, features: Tensor, x: Tensor) -> Tensor:
        image = x.transpose(1, 2).unflatten(2, features.shape[2:])
        levels = [F.adaptive_avg_pool2d(image, cells) for cells in (1, (2, 3), 3)]
        means = torch.cat([level.flatten(2) for level in levels], dim=2).transpose(1, 2)
        return normalize(self._split(means), self.normalization)
