"""Backbones: an image (B, 3, H, W) to a list of feature maps, one per stage, finest first.

All share one interface: ``channels`` (of each map), ``native_stride`` (of the last map) and
:meth:`Backbone.set_output_stride`, which trades strides for dilation by the à trous rule and so
keeps every weight's meaning: the dilated network's last map, subsampled, *is* the undilated one's.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from emastudy.errors import DownloadError, InputError, MissingFileError, why_not_fetched
from emastudy.networks.state_dicts import unwrap

#: Multi-grid's factors for the dilations of the last stage's blocks, as in the released EMANet.
MULTI_GRID = (1, 2, 4)


class Backbone(nn.Module):
    """A chain of stages.

    One of your own derives from it and is called ``MyBackbone(weights, **options)``. ``weights`` is
    None, "imagenet" or the path of a file, as in ``build``; to load them is up to the class.

    Args:
        stages: Modules run one after another; the output of each is a feature map.
        channels: Channels of each stage's output.
        native_stride: Output stride of the last stage before any dilation.
        multi_grid: Factor for the dilation of each block of the last stage, on top of the à trous
            rule; empty = 1 for all.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        native_stride: int,
        multi_grid: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.multi_grid = tuple(multi_grid)
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(channels)
        self.native_stride = native_stride
        # Stride and padding of every layer that may be dilated or has a stride, as it was made.
        self._made = {
            name: (_step(layer.stride), layer.padding if isinstance(layer, nn.Conv2d) else "")
            for name, layer in self.stages.named_modules()
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d)
        }
        self.set_output_stride(native_stride)

    def set_output_stride(self, output_stride: int) -> None:
        """Change the stride of the last feature map, before or after training; weights stay.

        À trous: where a layer would stride beyond ``output_stride`` it keeps its resolution, and
        every conv after it is dilated by the factor that was not subsampled (times its block's
        factor of ``multi_grid``). With multi-grid (1, 2, 4) the three blocks of a ResNet's layer4
        are dilated by 1, 4, 8 at stride 16 and by 2, 8, 16 at stride 8.

        Raises:
            InputError: ``output_stride`` is no power of two from 4 to the native stride, lies
                within a single layer's stride, or would have to dilate a pooling layer.

        Source: Chen et al., "Rethinking Atrous Convolution", arXiv 1706.05587, Section 3.1.
        """
        allowed = [stride for stride in (4, 8, 16, 32) if stride <= self.native_stride]
        if output_stride not in allowed:
            allows = ", ".join(map(str, allowed))
            raise InputError(f"output_stride is {output_stride}; this backbone allows {allows}")
        stride, dilation, dense = 1, 1, False
        for name, layer in self.stages.named_modules():
            step, padding = self._made.get(name, (1, ""))
            if isinstance(layer, nn.MaxPool2d):
                stride *= step  # comes before stride 4 in every backbone: never dilated
            if not isinstance(layer, nn.Conv2d):
                continue
            shortcut = layer.kernel_size == (1, 1)  # beside the block's strided conv, after it
            grown = 1 if shortcut else dilation * self._grid(name)
            layer.dilation = (grown, grown)
            odd = all(k % 2 for k in layer.kernel_size)  # those of even size have no centre
            around = tuple(grown * (k // 2) for k in layer.kernel_size)
            layer.padding = around if odd or grown > 1 else padding
            if step > 1:
                if not shortcut:
                    dense = stride * step > output_stride
                    if dense and stride < output_stride:
                        raise InputError(
                            f"output_stride is {output_stride}; layer stages.{name} goes from "
                            f"stride {stride} to {stride * step} at once"
                        )
                    if dense:
                        dilation *= step
                    else:
                        stride *= step
                layer.stride = (1, 1) if dense else (step, step)
        made, whole = (stride, stride * dilation), (output_stride, self.native_stride)
        if output_stride < self.native_stride and made != whole:
            raise InputError(
                f"output_stride is {output_stride}; this backbone also downsamples by pooling, "
                f"which cannot be dilated: take {self.native_stride}, its own stride, or give it "
                "strided convs (or native_stride is not what its layers make)"
            )

    def _grid(self, layer: str) -> int:
        stage, *block = layer.split(".")  # 3.0.conv2
        last = int(stage) == len(self.stages) - 1
        return self.multi_grid[int(block[0])] if last and self.multi_grid else 1

    def forward(self, image: Tensor) -> list[Tensor]:
        """All stages' feature maps, finest first."""
        features = []
        for stage in self.stages:
            image = stage(image)
            features.append(image)
        return features


def _step(stride: int | tuple[int, ...]) -> int:
    """A layer's stride, 1 where it is not the same down and across."""
    down, across = (stride, stride) if isinstance(stride, int) else stride
    return down if down == across else 1


def small_resnet(weights: str | Path | None = None) -> Backbone:
    """A residual network for 64×64 scenes: 0.2 M parameters, stride 4, from scratch."""
    if weights is not None:
        raise InputError("small_resnet has no pretrained weights; use weights=None")
    stem = nn.Sequential(_conv_bn(3, 32, stride=2), nn.ReLU(inplace=True), ResidualBlock(32, 32))
    return Backbone([stem, ResidualBlock(32, 64, stride=2)], (32, 64), native_stride=4)


class ResidualBlock(nn.Module):
    """Two 3×3 convs around an identity (He et al., "Deep Residual Learning", CVPR 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        first = _conv_bn(in_channels, channels, stride)
        self.body = nn.Sequential(first, nn.ReLU(inplace=True), _conv_bn(channels, channels))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            self.shortcut = _conv_bn(in_channels, channels, stride, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, channels, H/stride, W/stride)."""
        return torch.relu(self.body(x) + self.shortcut(x))


def mobilenet_v2(weights: str | Path | None = None) -> Backbone:
    """MobileNetV2 (Sandler et al., CVPR 2018) up to its last bottleneck, 320 channels.

    The 1×1 conv to 1,280 channels that follows serves classification and is left out, as
    DeepLab does.
    """
    from torchvision.models import get_model

    features = get_model("mobilenet_v2").features[:18]
    _load(features, weights, "mobilenet_v2")
    cuts = ((0, 4, 24), (4, 7, 32), (7, 14, 96), (14, 18, 320))
    return Backbone([features[a:b] for a, b, _ in cuts], [c for *_, c in cuts], native_stride=32)


def resnet(
    name: str,
    weights: str | Path | None = None,
    *,
    stages: int = 4,
    deep_stem: bool = False,
    multi_grid: bool = False,
) -> Backbone:
    """ResNet-18, -34, -50, -101 or -152 (He et al., "Deep Residual Learning", CVPR 2016).

    The bottlenecks of the deeper ones stride in their 3×3 conv, as torchvision's and the released
    EMANet's do (the paper strides in the first 1×1).

    Args:
        name: torchvision's name, e.g. "resnet101".
        weights: "imagenet" (torchvision's first download), one of torchvision's names such as
            "IMAGENET1K_V2", a state-dict file with torchvision's names, or None.
        stages: 4, or 3 to end at layer3 (stride 16).
        deep_stem: Three 3×3 convs (64, 64, 128 channels) instead of one 7×7 of 64, as in the
            released EMANet. In a state-dict file it has the names conv1.0, conv1.1, conv1.3,
            conv1.4, conv1.6 and bn1.
        multi_grid: Multiply the dilations of layer4's blocks by 1, 2, 4, see
            :meth:`Backbone.set_output_stride`. The two blocks of ResNet-18 take 1 and 2.

    Raises:
        InputError: ``stages`` is neither 3 nor 4; multi-grid without layer4; weights that do not
            fit.
    """
    from torchvision.models import get_model

    if stages not in (3, 4):
        raise InputError(f"stages is {stages}; a ResNet may end at stage 3 or 4")
    if multi_grid and stages != 4:
        raise InputError("multi_grid is True with stages=3; it dilates layer4 and needs stages=4")
    trunk = get_model(name)
    del trunk.fc
    if stages == 3:
        del trunk.layer4
    if deep_stem:
        _deepen(trunk)
    _load(trunk, weights, name)
    stem = nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, trunk.maxpool, trunk.layer1)
    rest = [trunk.layer2, trunk.layer3] + ([trunk.layer4] if stages == 4 else [])
    expansion = trunk.layer1[0].expansion
    return Backbone(
        [stem, *rest],
        [expansion * width for width in (64, 128, 256, 512)[:stages]],
        native_stride=2 ** (stages + 1),
        multi_grid=MULTI_GRID[: len(trunk.layer4)] if multi_grid else (),
    )


def _deepen(trunk: Any) -> None:
    """Replace torchvision's 7×7 conv by three 3×3, and widen what reads it to 128 channels."""
    trunk.conv1 = nn.Sequential(
        *_conv_bn(3, 64, stride=2),
        nn.ReLU(inplace=True),
        *_conv_bn(64, 64),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 128, 3, padding=1, bias=False),
    )
    trunk.bn1 = nn.BatchNorm2d(128)
    first = trunk.layer1[0]
    old = first.conv1
    first.conv1 = nn.Conv2d(128, 64, old.kernel_size, padding=old.padding, bias=False)
    if first.downsample is None:  # basic blocks of 64 channels: the identity does not fit any more
        first.downsample = _conv_bn(128, 64, kernel_size=1)
    else:
        first.downsample[0] = nn.Conv2d(128, 256, 1, bias=False)
    for conv in (*trunk.conv1, first.conv1, first.downsample[0]):
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


BACKBONES: dict[str, Callable[..., Backbone]] = {
    "small_resnet": small_resnet,
    "mobilenet_v2": mobilenet_v2,
    **{name: partial(resnet, name) for name in map("resnet{}".format, (18, 34, 50, 101, 152))},
}


def _conv_bn(
    in_channels: int, channels: int, stride: int = 1, kernel_size: int = 3
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(channels),
    )


def _load(trunk: nn.Module, weights: str | Path | None, name: str) -> None:
    """Fill ``trunk`` from torchvision's download or from a file of torchvision's names."""
    if weights is None:
        return
    from torchvision.models import get_model_weights

    published: dict[str, Any] = dict(get_model_weights(name).__members__)
    published["imagenet"] = published["IMAGENET1K_V1"]
    if weights in published:
        state = _download(published[str(weights)])
    else:
        state = _read(Path(weights), published)
    wanted = trunk.state_dict()
    try:
        state = unwrap(state, wanted)
    except InputError as error:
        raise InputError(f"weights: {weights} cannot be used: {error}") from error
    misfits = [k for k in wanted if k not in state or state[k].shape != wanted[k].shape]
    if misfits:
        raise InputError(
            f"weights: {weights} lacks {len(misfits)} of this backbone's {len(wanted)} tensors, "
            f"or has them in another shape, {misfits[0]} the first; is it the state dict of "
            "another network? (torchvision has none for deep_stem=True)"
        )
    trunk.load_state_dict({key: state[key] for key in wanted})


def _download(choice: Any) -> Any:
    try:
        return choice.get_state_dict(progress=True, check_hash=True)
    # RuntimeError: torch.hub's for another checksum, and, with the two before it, torch.load's for
    # a damaged file in its cache.
    except (OSError, HTTPException, EOFError, UnpicklingError, RuntimeError) as error:
        raise DownloadError(
            f"weights: {choice.url} could not be downloaded into {torch.hub.get_dir()}, or is "
            f"damaged there ({why_not_fetched(error)}); fetch it elsewhere and give its path "
            "(weights_path, WEIGHTS=... for make, --weights-path for the command)"
        ) from error


def _read(path: Path, published: Iterable[str]) -> Any:
    if not path.is_file():
        raise MissingFileError(
            f"weights: there is no file {path}; give the path of a state dict, one of "
            f"torchvision's {', '.join(published)}, or None"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        kind = type(error).__name__
        what = f"is no readable state dict ({kind}); it may be truncated: fetch it again"
        more = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        if more:
            what = (
                f"holds more than tensors ({more[1]}), and is not read because that might run "
                "code; if you trust it, save its state dict alone"
            )
        raise InputError(f"weights: {path} {what}") from error
