"""A unit that the search of page 38 tried, and did not keep."""

import torch
from torch import Tensor, nn

from emastudy import EMAU


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
