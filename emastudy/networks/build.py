"""Whole networks: a backbone and a head."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emastudy import options, own
from emastudy.errors import InputError
from emastudy.networks.backbones import BACKBONES, Backbone
from emastudy.networks.emau import EMAU
from emastudy.networks.heads import ALIASES, HEADS, ContextHead
from emastudy.networks.imported import import_backbone, import_context
from emastudy.networks.pyramids import ASPP
from emastudy.options import PositiveInt, Probability

#: What a published network asks of its backbone, beside its head.
_BACKBONE_OPTIONS = {"emanet_released": {"deep_stem": True, "multi_grid": True}}
#: Of ImageNet's images, in RGB of 0 to 1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SegmentationNetwork(nn.Module):
    """An image (B, 3, H, W) to logits (B, num_classes, H, W) at the image's own size.

    A ``backbone``, image to feature maps, and a ``head``, those to logits.
    """

    classes: tuple[str, ...] = ()  #: Name of each logit, where ``from_pretrained`` made it.
    colors: tuple[tuple[int, int, int], ...] = ()  #: RGB of each class, likewise.
    #: Mean and standard deviation of the images that it learnt from, in RGB of 0 to 1, likewise.
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        #: Image pixels per pixel of the last feature map.
        self.output_stride = backbone.native_stride
        #: What ``build`` was called with, as JSON can keep it.
        self.architecture: dict[str, Any] = {}

    def set_output_stride(self, output_stride: int) -> None:
        """Change the stride of the last feature map, before or after training; weights stay.

        The backbone trades strides for dilation, and an ASPP in the head adapts its rates.

        Raises:
            InputError: The backbone or the ASPP does not allow it.
        """
        try:
            self.backbone.set_output_stride(output_stride)
            for module in self.head.modules():
                if isinstance(module, ASPP):
                    module.set_output_stride(output_stride)
        except InputError:
            self.backbone.set_output_stride(self.output_stride)
            raise
        self.output_stride = output_stride

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes h w"]:
        """Logits in float32, upsampled bilinearly with aligned corners as in the released code."""
        smallest = self.backbone.native_stride
        if min(image.shape[-2:]) < smallest:
            raise InputError(
                f"the network sees {image.shape[-2]}×{image.shape[-1]} pixels (after padding), "
                f"fewer than the backbone's stride of {smallest} a side: enlarge the image, or "
                f"the crop (crop_size), to at least {smallest}×{smallest}"
            )
        logits = self.head(self.backbone(image)).float()
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)


@options.checked
def build(
    head: str,
    *,
    backbone: str = "mobilenet_v2",
    num_classes: PositiveInt,
    output_stride: int = 16,
    weights: str | Path | None = None,
    bn_momentum: Probability = 0.1,
    backbone_options: Mapping[str, Any] | None = None,
    **head_options: Any,
) -> SegmentationNetwork:
    """Build a segmentation network by name.

    Args:
        head: "ema" or "emanet" (EMANet as the paper's Table 1 counts it), "emanet_released" (with
            the released code's extra 3×3 conv, deep stem and multi-grid), "fcn", "non_local",
            "a2", "deeplabv3", "deeplabv3plus", "psanet", "pspnet"; from after EMA "hamburger",
            "external", "efficient", "nystrom", "ocr", "slots", "criss_cross"; "windowed_ema", what
            the study's search for a better unit found; as a control "no_attention", EMA's unit
            without EM. Or an import path, ``my_module:MyUnit``, of a context module of your own: it
            is called ``MyUnit(channels, **options)``, maps (B, C, H, W) to the same shape, and
            stands where EMA's unit does.
        backbone: "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2" or
            "small_resnet" (for scenes). Or an import path, ``my_module:MyBackbone``, of a class
            derived from ``networks.Backbone`` that is called ``MyBackbone(weights, **options)``.
        num_classes: Number of logits.
        output_stride: Image pixels per pixel of the last feature map: 4, 8, 16 or 32. Change it
            later with ``network.set_output_stride``.
        weights: Of the backbone: "imagenet" (torchvision's download) or a torchvision name such
            as "IMAGENET1K_V2", the path of a state dict with torchvision's names, or None.
        bn_momentum: Weight of the *new* statistics in every batch norm (torch's convention).
        backbone_options: Further options of the backbone, e.g. ``{"deep_stem": True}``.
        head_options: Options of the head, among them those of its context module.

    Raises:
        InputError: An unknown name or option (the message lists those that exist) or one out of
            its range.
    """
    head = ALIASES.get(head, head)
    maker = _lookup("head", head, HEADS)
    check_options("head", head, head_options, head_defaults(head))
    trunk_options = backbone_defaults(backbone, head)
    check_options("backbone", backbone, backbone_options or {}, trunk_options)
    make_trunk = _lookup("backbone", backbone, BACKBONES)
    trunk = make_trunk(weights, **{**trunk_options, **(backbone_options or {})})
    network = SegmentationNetwork(trunk, maker(trunk.channels, num_classes, **head_options))
    network.set_output_stride(output_stride)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = bn_momentum
        elif isinstance(layer, EMAU):  # version 1 of the numbers was made so
            layer.as_recorded = True
    network.architecture = {
        "head": head,
        "backbone": backbone,
        "num_classes": num_classes,
        "output_stride": output_stride,
        "bn_momentum": bn_momentum,
        "backbone_options": dict(backbone_options or {}),
        **head_options,
    }
    return network


@contextmanager
def evaluation_mode(network: nn.Module, output_stride: int | None = None) -> Iterator[None]:
    """Within the context any network is in evaluation mode; afterwards it is as it was.

    Args:
        output_stride: Of a ``SegmentationNetwork``, within the context; None = as it is.
    """
    modes = {module: module.training for module in network.modules()}
    before = network.output_stride if isinstance(network, SegmentationNetwork) else None
    network.eval()
    try:
        if output_stride is not None:
            _set_output_stride(network, output_stride)
        yield
    finally:
        if before is not None and output_stride is not None:
            _set_output_stride(network, before)
        for module, mode in modes.items():
            module.training = mode


def _set_output_stride(network: nn.Module, output_stride: int) -> None:
    if not isinstance(network, SegmentationNetwork):
        raise InputError(
            f"output_stride is {output_stride}, but {type(network).__name__} is no network of "
            "build(), whose stride alone can be changed; leave it None"
        )
    network.set_output_stride(output_stride)


def check_options(
    kind: str, name: str, given: Mapping[str, object], known: Mapping[str, object]
) -> None:
    """Check names and types of the options given to a "head" or "backbone".

    Args:
        known: Those that it has, see :func:`head_defaults` and :func:`backbone_defaults`.

    Raises:
        InputError: An option that it does not have, or takes as another type.
    """
    owner = f"{kind} {name!r}"
    parts = _parts(_lookup(kind, name, HEADS if kind == "head" else BACKBONES))
    # Of one's own, unlike ours, all that is asked for without a default is an option, and a class
    # that takes **options hands them on to another.
    required = options.required(parts[-1]) if own.is_path(name) else []
    if not (own.is_path(name) and options.takes_any(parts[-1])):
        options.check(owner, given, [*known, *required])
    for part in parts:
        options.check_types(owner, given, part)


def head_defaults(head: str) -> dict[str, Any]:
    """Options of a head, its context module's included, with their default values.

    Raises:
        InputError: Unknown head.
    """
    return _defaults(_lookup("head", head, HEADS))


def backbone_defaults(backbone: str, head: str = "fcn") -> dict[str, Any]:
    """Options of a backbone (``weights`` left out) with their default values under a head.

    Raises:
        InputError: Unknown backbone, or one without an option that the head's network has.
    """
    found = _defaults(_lookup("backbone", backbone, BACKBONES))
    found.pop("weights", None)
    asked = _BACKBONE_OPTIONS.get(head, {})
    options.check(f"backbone {backbone!r}", asked, found)
    return {**found, **asked}


def _lookup(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    if kind == "head":
        name = ALIASES.get(name, name)
    if own.is_path(name):
        if kind == "head":
            return partial(ContextHead, import_context(name, ContextHead))
        return import_backbone(name)
    if name not in table:
        own.refuse_module(kind, name)
        names = [*table, *ALIASES] if kind == "head" else table
        raise InputError(
            f"{kind} is {name!r}; there are {', '.join(sorted(names))}, and import paths of your "
            "own like my_module:MyUnit"
        )
    return table[name]


def _defaults(maker: Any) -> dict[str, Any]:
    found = dict(maker.keywords) if isinstance(maker, partial) else {}
    for part in _parts(maker):
        found |= {k: v for k, v in options.defaults(part).items() if k not in found}
    found.pop("process_group", None)  # made while processes run: no config can name one
    return found


def _parts(maker: Any) -> list[Any]:
    """The functions and classes whose options a maker takes."""
    if isinstance(maker, partial):
        return [maker.func, *filter(callable, maker.args)]
    return [maker]
