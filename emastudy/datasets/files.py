"""Reading image and mask files.

Floor: datasets.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage
from torchvision.tv_tensors import Image


def read_image(path: Path) -> Image:
    """An image file as (3, H, W) uint8 RGB.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or no image.
    """
    with _opened(path) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return Image(pixels.permute(2, 0, 1).contiguous())


def read_mask(path: Path) -> np.ndarray:
    """A mask file as (H, W) uint8 class indices.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or a colour image.
    """
    with _opened(path) as image:
        if image.mode not in ("P", "L"):
            raise ValueError(
                f"{path} is a {image.mode} image; expected one class index per pixel (palette "
                "or greyscale PNG). Was it saved by a tool that turned indices into colours?"
            )
        return np.array(image)


@contextmanager
def _opened(path: Path) -> Iterator[PILImage.Image]:
    """An open image file, whose damage is a ValueError that names it."""
    try:
        with PILImage.open(path) as image:
            yield image
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}); it may be truncated: fetch it again"
        ) from error
