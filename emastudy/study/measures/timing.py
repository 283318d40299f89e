"""How long the unit takes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emastudy.engine import cost
from emastudy.engine.diagnostics import unit_input
from emastudy.options import PositiveInt
from emastudy.study.measures.subject import Row, Subject, register


@register("time")
def timing(
    subject: Subject,
    *,
    sides: Sequence[PositiveInt] = (33, 49, 65, 97, 129),
    size: PositiveInt = 513,
    repeats: PositiveInt = 5,
) -> list[Row]:
    """How long the EMA unit takes, alone and as a share of its network; inference, one image.

    Args:
        sides: Heights and widths of random feature maps for the unit alone; N = side².
        repeats: Timed passes of each, after one that is not counted; the median counts.

    Returns:
        One row: "pixels" (N of each map), "seconds" (of the unit on each), "network_seconds" (of
        the network on the image), "unit_seconds" (of the unit on that image's features).
    """
    network, unit = subject.network, subject.unit
    where = next(network.parameters()).device

    def seconds(module: torch.nn.Module, x: Tensor) -> float:
        x = x.to(where).contiguous(memory_format=torch.channels_last)
        return cost.seconds(lambda: module(x), repeats=repeats)

    with torch.inference_mode():
        image = torch.randn(1, 3, size, size)
        maps = [torch.randn(1, unit.conv1.in_channels, side, side) for side in sides]
        return [
            {
                "at.size": size,
                "pixels": [side**2 for side in sides],
                "seconds": [seconds(unit, x) for x in maps],
                "network_seconds": seconds(network, image),
                "unit_seconds": seconds(unit, unit_input(network, image.to(where))),
            }
        ]
