"""PSANet: attention maps predicted from each pixel's own features."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from emastudy import options
from emastudy.errors import require
from emastudy.networks.graphs import for_any_size
from emastudy.networks.layers import classifier, conv_bn_relu, is_plain, resize_like
from emastudy.options import PositiveInt, Probability

Flow = Literal["collect", "distribute", "both"]


class PointwiseSpatialAttention(nn.Module):
    r"""Every pixel predicts how much it takes from, or gives to, each displacement around it.

    .. math:: z^c_i = \sum_j \mathrm{softmax}_j\big(a^c_{i}[j - i]\big)\, x_j, \qquad
        z^d_i = \sum_j \mathrm{softmax}_j\big(a^d_{j}[i - j]\big)\, x_j

    x is the feature map through a 1×1 conv to ``channels`` (one per flow), at half its
    resolution. The logits a of a pixel for all (window)² displacements come from two 1×1 convs
    on x: in *collect* the receiving pixel decides, in *distribute* the giving one. Displacements
    beyond the window get nothing. [z^c, z^d] is projected back to ``in_channels`` and enlarged.

    Args:
        flow: "collect", "distribute" or "both".
        window: Odd number of displacements per side, in pixels of the halved map. 65 reaches
            from corner to corner of a 513×513 image at output stride 8.

    Raises:
        InputError: ``flow`` is unknown, or ``window`` is even or < 1.

    Source: Zhao et al., "PSANet: Point-wise Spatial Attention Network", ECCV 2018, Eqs 5-9. The
    softmax and the halving are the authors' code's. Differs from that code on maps larger than
    the window, where it gives what lies beyond the logit 0.
    """

    @options.checked
    def __init__(
        self,
        in_channels: PositiveInt,
        channels: PositiveInt = 512,
        flow: Flow = "both",
        window: PositiveInt = 65,
    ) -> None:
        super().__init__()
        require(window % 2 == 1, "window", window, "an odd number")
        self.window = window
        flows = ("collect", "distribute") if flow == "both" else (flow,)
        self.reduce = nn.ModuleDict({f: conv_bn_relu(in_channels, channels, 1) for f in flows})
        self.attention = nn.ModuleDict()
        for f in flows:
            hidden = conv_bn_relu(channels, channels, 1)
            self.attention[f] = nn.Sequential(hidden, nn.Conv2d(channels, window**2, 1, bias=False))
        self.project = conv_bn_relu(len(flows) * channels, in_channels, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Context of every pixel, in the shape of the input."""
        size = ((features.shape[-2] + 1) // 2, (features.shape[-1] + 1) // 2)
        reach = self._reach(size)
        displacement, reached = _displacements(size, reach, features.device)
        contexts = []
        for flow, reduce in self.reduce.items():
            x = F.interpolate(reduce(features), size=size, mode="bilinear", align_corners=True)
            logits = self._logits(self.attention[flow], x, reach).flatten(2).transpose(1, 2)
            logits = logits.float().gather(2, displacement.expand(len(x), -1, -1))
            logits = logits.masked_fill(~reached, -torch.inf)  # (B, n, n): own pixel, other
            if flow == "distribute":
                logits = logits.transpose(1, 2)  # the other one's own is the giving pixel
            weights = logits.softmax(dim=2).to(x.dtype)
            contexts.append((x.flatten(2) @ weights.transpose(1, 2)).reshape(x.shape))
        projected: Tensor = self.project(torch.cat(contexts, dim=1))
        return resize_like(projected, features)

    def _reach(self, size: Sequence[int]) -> list[int]:
        """Down and right, the largest displacements that logits are computed of.

        On a map smaller than the window no two pixels are further apart; a graph for maps of all
        sizes, and a last conv that is more than its weight, have them all.
        """
        half = self.window // 2
        last = [[*attention.children()][-1] for attention in self.attention.values()]
        if for_any_size() or not all(map(is_plain, last)):
            return [half, half]
        return [min(half, pixels - 1) for pixels in size]

    def _logits(self, attention: Any, x: Tensor, reach: Sequence[int]) -> Tensor:
        """(B, n displacements within reach, h, w): of the last conv those channels alone."""
        half = self.window // 2
        if list(reach) == [half, half]:
            logits: Tensor = attention(x)
            return logits
        hidden, conv = attention
        middle = [slice(half - far, half + far + 1) for far in reach]
        weight = conv.weight.view(self.window, self.window, *conv.weight.shape[1:])
        return F.conv2d(hidden(x), weight[*middle].flatten(0, 1))


def _displacements(
    size: Sequence[int], reach: Sequence[int], device: torch.device
) -> tuple[Int[Tensor, "n n"], Bool[Tensor, "n n"]]:
    """For pixels i, j in row-major order: index of j - i among those within reach; is it there?"""
    pixels = torch.cartesian_prod(*(torch.arange(n, device=device) for n in size))
    far = torch.tensor(reach, device=device)
    places = pixels - pixels[:, None] + far
    reached = ((places >= 0) & (places <= 2 * far)).all(dim=2)
    return torch.where(reached, places[..., 0] * (2 * reach[1] + 1) + places[..., 1], 0), reached


class PSAHead(nn.Module):
    """The last feature map beside its point-wise spatial attention → 3×3 conv → classifier.

    The conv has ``channels``, the attention, :class:`PointwiseSpatialAttention`, sees
    ``attention_channels``.

    Source: Zhao et al., ECCV 2018. Differs from the authors' code: 256 instead of 512 channels in
    the last 3×3 conv, the width at which the EMANet paper's Table 1 agrees; no auxiliary loss.
    """

    @options.checked
    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: PositiveInt,
        *,
        channels: PositiveInt = 256,
        attention_channels: PositiveInt = 512,
        flow: Flow = "both",
        window: PositiveInt = 65,
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__()
        last = in_channels[-1]
        self.attention = PointwiseSpatialAttention(last, attention_channels, flow, window)
        self.fuse = conv_bn_relu(2 * last, channels)
        self.classifier = classifier(channels, num_classes, dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes, h, w)."""
        last = features[-1]
        logits: Tensor = self.classifier(self.fuse(torch.cat([last, self.attention(last)], dim=1)))
        return logits
