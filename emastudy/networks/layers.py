"""The layers that heads are made of."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def conv_bn_relu(
    in_channels: int, channels: int, kernel_size: int = 3, dilation: int = 1
) -> nn.Sequential:
    """Conv without bias, batch norm, ReLU; the resolution stays."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(in_channels, channels, kernel_size, 1, padding, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def batch_norm(channels: int, zero_init: bool) -> nn.BatchNorm2d:
    """The norm at the end of a residual branch, its scale 0 or 1 at the start."""
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, 0.0 if zero_init else 1.0)
    return norm


def classifier(channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Dropout of whole channels, then a 1×1 conv to class logits."""
    return nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1))


def pixels(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n c"]:
    """(B, C, H, W) → (B, N, C): a view; its pixels are contiguous if the map is channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_map(y: Float[Tensor, "b n d"], like: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """(B, N, d) → (B, d, H, W), of the height and width of ``like``."""
    return y.transpose(1, 2).reshape(len(y), -1, *like.shape[-2:])


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear with aligned corners, to the height and width of ``reference``."""
    return F.interpolate(x, size=reference.shape[-2:], mode="bilinear", align_corners=True)


class Decoder(nn.Module):
    """Enlarges a coarse map to a finer one and refines it with that one's details.

    The fine map goes through a 1×1 conv to ``detail_channels`` and is concatenated with the
    enlarged coarse one; two 3×3 convs bring them back to ``channels``, those of the coarse map.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution", ECCV 2018, Section
    3.1, with ordinary instead of separable convs, as for its ResNet.
    """

    def __init__(self, channels: int, fine_channels: int, detail_channels: int = 48) -> None:
        super().__init__()
        self.detail = conv_bn_relu(fine_channels, detail_channels, 1)
        first = conv_bn_relu(channels + detail_channels, channels)
        self.refine = nn.Sequential(first, conv_bn_relu(channels, channels))

    def forward(
        self, coarse: Float[Tensor, "b d h w"], fine: Float[Tensor, "b c H W"]
    ) -> Float[Tensor, "b d H W"]:
        """(B, channels, h, w) and (B, fine_channels, H, W) to (B, channels, H, W)."""
        refined: Tensor = self.refine(torch.cat([resize_like(coarse, fine), self.detail(fine)], 1))
        return refined


def is_plain(conv: nn.Module) -> bool:
    """Whether calling ``conv`` is a 1×1 convolution by its weight and bias, and nothing else."""
    return (
        type(conv) is nn.Conv2d
        and (conv.kernel_size, conv.stride, conv.padding) == ((1, 1), (1, 1), (0, 0))
        and conv.groups == 1
        and "forward" not in vars(conv)
        # On the meta device nothing is computed that a hook could change: they only count.
        and (conv.weight.is_meta or not has_hooks(conv))
    )


def has_hooks(module: nn.Module) -> bool:
    """Whether more is done when ``module`` is called than its forward."""
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
    )
