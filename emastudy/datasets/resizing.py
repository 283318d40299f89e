"""Resizing image and mask alike, as torchvision's transforms: a random factor, or into a square."""

from collections.abc import Sequence
from typing import Any

import torch
from torchvision.transforms import v2
from torchvision.tv_tensors import Mask

from emastudy.datasets.base import IGNORE


class RandomScale(v2.Transform):  # type: ignore[misc]
    """Resize by a factor drawn uniformly from ``scales``."""

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__()
        self.scales = tuple(scales)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the new size; torchvision calls this once for image and mask together."""
        factor = self.scales[int(torch.randint(len(self.scales), ()))]
        height, width = v2.functional.get_size(flat_inputs[0])
        # A crop needs a pixel, and of a single one torch's antialiasing fails.
        return {"size": [max(2, round(length * factor)) for length in (height, width)]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize the image (bilinear) or the mask (nearest)."""
        return v2.functional.resize(inpt, params["size"], antialias=True)


class FitSquare(v2.Transform):  # type: ignore[misc]
    """The whole image in a square: shrunk where it is too large, then padded right and below.

    Padding is 0 in the image and 255 (ignored) in the mask. The corner stays where it is, as in
    :func:`emastudy.datasets.pad_to_grid`. With ``side=0`` only that much is padded as makes the
    corners of image and feature map coincide at ``stride``.
    """

    def __init__(self, side: int, stride: int = 8) -> None:
        super().__init__()
        self.side, self.stride = side, stride

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The size to shrink to."""
        size = v2.functional.get_size(flat_inputs[0])
        factor = min(1, self.side / max(size)) if self.side else 1
        return {"size": [max(1, round(length * factor)) for length in size]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Shrink and pad the image (bilinear) or the mask (nearest)."""
        height, width = params["size"]
        fitted = v2.functional.resize(inpt, [height, width], antialias=True)
        right, below = (
            self.side - length if self.side else -(length - 1) % self.stride
            for length in (width, height)
        )
        padding = [0, 0, right, below]
        return v2.functional.pad(fitted, padding, fill=IGNORE if isinstance(inpt, Mask) else 0)
