"""Backbones: an image (B, 3, H, W) to a list of feature maps, one per stage, finest first.

Floor: networks (imports torch and torchvision).

All share one interface: ``channels`` (of each map), ``native_stride`` (of the last map) and
:meth:`Backbone.set_output_stride`, which trades strides for dilation by the à trous rule and so
keeps every weight's meaning: the dilated network's last map, subsampled, *is* the undilated one's.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import (
    MobileNet_V2_Weights,
    ResNet18_Weights,
    WeightsEnum,
    mobilenet_v2,
    resnet18,
)


class Backbone(nn.Module):
    """A chain of stages.

    Args:
        stages: Modules run one after another; the output of each is a feature map.
        channels: Channels of each stage's output.
        native_stride: Output stride of the last stage before any dilation.
    """

    def __init__(
        self, stages: Sequence[nn.Module], channels: Sequence[int], native_stride: int
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(channels)
        self.native_stride = native_stride
        self._strided = {
            name
            for name, layer in self.named_modules()
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.stride in (2, (2, 2))
        }

    def set_output_stride(self, output_stride: int) -> None:
        """Change the stride of the last feature map, before or after training; weights stay.

        À trous: where a layer would stride beyond ``output_stride`` it keeps its resolution, and
        every conv after it is dilated by the factor that was not subsampled.

        Raises:
            ValueError: ``output_stride`` is no power of two from 4 to the native stride.

        Source: Chen et al., "Rethinking Atrous Convolution", arXiv 1706.05587, Section 3.1.
        """
        allowed = [stride for stride in (4, 8, 16, 32) if stride <= self.native_stride]
        if output_stride not in allowed:
            raise ValueError(
                f"output_stride is {output_stride}; this backbone allows "
                + ", ".join(map(str, allowed))
            )
        stride, dilation, dense = 1, 1, False
        for name, layer in self.named_modules():
            strided = name in self._strided
            if isinstance(layer, nn.MaxPool2d) and strided:
                stride *= 2  # comes before stride 4 in every backbone: never dilated
            if not isinstance(layer, nn.Conv2d):
                continue
            shortcut = layer.kernel_size == (1, 1)  # beside the block's strided conv, after it
            layer.dilation = (1, 1) if shortcut else (dilation, dilation)
            layer.padding = tuple(
                d * (k // 2) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
            )
            if strided:
                if not shortcut:
                    dense = stride * 2 > output_stride
                    stride, dilation = (stride, dilation * 2) if dense else (stride * 2, dilation)
                layer.stride = (1, 1) if dense else (2, 2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """All stages' feature maps, finest first."""
        features = []
        for stage in self.stages:
            image = stage(image)
            features.append(image)
        return features


def small_resnet(weights: str | Path | None = None) -> Backbone:
    """A residual network for 64×64 scenes: 0.2 M parameters, stride 4, from scratch."""
    if weights is not None:
        raise ValueError("small_resnet has no pretrained weights; use weights=None")
    stem = nn.Sequential(_conv_bn(3, 32, stride=2), nn.ReLU(inplace=True), ResidualBlock(32, 32))
    return Backbone([stem, ResidualBlock(32, 64, stride=2)], (32, 64), native_stride=4)


class ResidualBlock(nn.Module):
    """Two 3×3 convs around an identity (He et al., "Deep Residual Learning", CVPR 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv_bn(in_channels, channels, stride),
            nn.ReLU(inplace=True),
            _conv_bn(channels, channels),
        )
        same = stride == 1 and in_channels == channels
        self.shortcut = (
            nn.Identity() if same else _conv_bn(in_channels, channels, stride, kernel_size=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, channels, H/stride, W/stride)."""
        return torch.relu(self.body(x) + self.shortcut(x))


def mobilenet_v2_backbone(weights: str | Path | None = None) -> Backbone:
    """MobileNetV2 (Sandler et al., CVPR 2018) up to its last bottleneck, 320 channels.

    The 1×1 conv to 1,280 channels that follows serves classification and is left out, as
    DeepLab does.
    """
    features = mobilenet_v2().features[:18]
    _load(features, weights, MobileNet_V2_Weights.IMAGENET1K_V1, prefix="features.")
    cuts = ((0, 4, 24), (4, 7, 32), (7, 14, 96), (14, 18, 320))
    return Backbone([features[a:b] for a, b, _ in cuts], [c for *_, c in cuts], native_stride=32)


def resnet18_backbone(weights: str | Path | None = None, *, stages: int = 4) -> Backbone:
    """ResNet-18 (He et al., CVPR 2016).

    Args:
        weights: "imagenet" (torchvision's download), a state-dict file with torchvision's names,
            or None.
        stages: 4, or 3 to end at layer3 (256 channels, stride 16).
    """
    if stages not in (3, 4):
        raise ValueError(f"stages is {stages}; a ResNet may end at stage 3 or 4")
    trunk = resnet18()
    del trunk.fc
    if stages == 3:
        del trunk.layer4
    _load(trunk, weights, ResNet18_Weights.IMAGENET1K_V1)
    stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool, trunk.layer1)
    rest = [trunk.layer2, trunk.layer3] + ([trunk.layer4] if stages == 4 else [])
    return Backbone([stem, *rest], (64, 128, 256, 512)[:stages], native_stride=2 ** (stages + 1))


BACKBONES: dict[str, Callable[..., Backbone]] = {
    "small_resnet": small_resnet,
    "mobilenet_v2": mobilenet_v2_backbone,
    "resnet18": resnet18_backbone,
}


def _conv_bn(in_channels: int, channels: int, stride: int = 1, kernel_size: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(channels),
    )


def _load(
    trunk: nn.Module, weights: str | Path | None, published: WeightsEnum, prefix: str = ""
) -> None:
    """Fill ``trunk`` from torchvision's download or from a file of torchvision's names."""
    if weights is None:
        return
    if weights == "imagenet":
        try:
            state = published.get_state_dict(progress=True, check_hash=True)
        except OSError as error:
            raise ConnectionError(
                f"weights: {published.url} could not be downloaded ({error}); fetch it elsewhere "
                "and give its path (weights_path, WEIGHTS=... for make, --weights-path for the "
                "command)"
            ) from error
    else:
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"weights: there is no file {path}; give 'imagenet' (torchvision's download), "
                "the path of a state dict, or None"
            )
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f"weights: {path} is no readable state dict ({error}); it may be truncated: "
                "fetch it again"
            ) from error
    state = {name.removeprefix(prefix): value for name, value in state.items()}
    wanted = trunk.state_dict()
    missing = [name for name in wanted if name not in state]
    if missing:
        raise ValueError(
            f"weights: {weights} lacks {len(missing)} of this backbone's {len(wanted)} tensors, "
            f"{missing[0]} the first; is it the state dict of another network?"
        )
    trunk.load_state_dict({name: state[name] for name in wanted})
