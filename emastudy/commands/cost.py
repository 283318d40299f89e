"""``emastudy cost``: what a network costs."""

import torch
import tyro

from emastudy import networks, options
from emastudy.commands import Pairs
from emastudy.engine import cost


def command(
    network: tyro.conf.Positional[str],
    size: int = 513,
    backbone: str = "resnet101",
    num_classes: int = 21,
    output_stride: int = 8,
    head_options: Pairs = (),
    backbone_options: Pairs = (),
    repeats: int = 0,
) -> None:
    """Count a network's multiply-adds, parameters and activation memory, whole and by part.

    For example: emastudy cost emanet --size 513 --backbone-options deep_stem=true

    Args:
        network: Name of the head or network, see networks.build, or an import path of your own
            such as my_module:MyUnit.
        size: Height and width of the image, pixels.
        backbone: Name of the backbone, or an import path, my_module:MyBackbone.
        num_classes: Number of logits.
        output_stride: Image pixels per feature pixel.
        head_options: Options of the head, e.g. channels=256.
        backbone_options: Options of the backbone, e.g. deep_stem=true.
        repeats: Forward passes to time on this machine's CPU; 0 = only count, without running.
    """
    with torch.device("cpu" if repeats else "meta"):
        built = networks.build(
            network,
            backbone=backbone,
            num_classes=num_classes,
            output_stride=output_stride,
            backbone_options=options.parse(backbone_options),
            **options.parse(head_options),
        )
    print(cost.table(built, size, repeats=repeats))
