"""Whole networks: a backbone and a head.

Floor: networks.
"""

import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emastudy.networks.backbones import BACKBONES, Backbone
from emastudy.networks.heads import HEADS


class SegmentationNetwork(nn.Module):
    """An image (B, 3, H, W) to logits (B, num_classes, H, W) at the image's own size.

    Attributes:
        backbone: Image to feature maps; ``backbone.set_output_stride(8)`` changes the resolution
            at any time and keeps all weights.
        head: Feature maps to logits at the last map's resolution.
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes h w"]:
        """Logits in float32, upsampled bilinearly with aligned corners as in the released code."""
        smallest = self.backbone.native_stride
        if min(image.shape[-2:]) < smallest:
            raise ValueError(
                f"the image is {image.shape[-2]}×{image.shape[-1]} pixels, smaller than the "
                f"backbone's stride of {smallest}; enlarge or pad it to at least "
                f"{smallest}×{smallest}"
            )
        logits = self.head(self.backbone(image)).float()
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)


def build(
    head: str,
    *,
    backbone: str = "mobilenet_v2",
    num_classes: int,
    output_stride: int = 16,
    weights: str | Path | None = None,
    bn_momentum: float = 0.1,
    backbone_options: Mapping[str, Any] | None = None,
    **head_options: Any,
) -> SegmentationNetwork:
    """Build a segmentation network by name.

    Args:
        head: "fcn", "ema" or "non_local".
        backbone: "small_resnet" (for scenes), "mobilenet_v2" or "resnet18".
        num_classes: Number of logits.
        output_stride: Image pixels per pixel of the last feature map: 4, 8, 16 or 32.
        weights: Of the backbone: "imagenet" (torchvision's download), the path of a state dict
            with torchvision's names, or None.
        bn_momentum: Weight of the *new* statistics in every batch norm (torch's convention).
        backbone_options: Further options of the backbone.
        head_options: Options of the head, among them those of its context module.

    Raises:
        ValueError: An unknown name or option (the message lists those that exist) or one out of
            its range.
    """
    maker = _lookup("head", head, HEADS)
    known = head_defaults(head)
    for option in head_options:
        if option not in known:
            raise ValueError(
                f"head {head!r} has no option {option!r}; it has {', '.join(sorted(known))}"
            )
    trunk = _lookup("backbone", backbone, BACKBONES)(weights, **(backbone_options or {}))
    trunk.set_output_stride(output_stride)
    network = SegmentationNetwork(trunk, maker(trunk.channels, num_classes, **head_options))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = bn_momentum
    return network


def _lookup(kind: str, name: str, table: dict[str, Any]) -> Any:
    if name not in table:
        raise ValueError(f"{kind} is {name!r}; there are {', '.join(sorted(table))}")
    return table[name]


def head_defaults(head: str) -> dict[str, Any]:
    """Options of a head, its context module's included, with their default values.

    Raises:
        ValueError: Unknown head.
    """
    maker = _lookup("head", head, HEADS)
    parts = [maker.func, maker.args[0]] if isinstance(maker, partial) else [maker]
    found: dict[str, Any] = {}
    for part in parts:
        for parameter in inspect.signature(part).parameters.values():
            if parameter.default is not parameter.empty:
                found.setdefault(parameter.name, parameter.default)
    return found
