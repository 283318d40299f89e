"""Images and masks as torchvision's tv_tensors, which its transforms tell apart.

Here as elsewhere torchvision, which takes as long as torch, is imported only where it is used.
"""

from torch import Tensor


def as_image(pixels: Tensor) -> Tensor:
    """Pixels (3, H, W) as an image."""
    from torchvision.tv_tensors import Image

    image: Tensor = Image(pixels)
    return image


def as_mask(classes: Tensor) -> Tensor:
    """Class indices (H, W) as a mask."""
    from torchvision.tv_tensors import Mask

    mask: Tensor = Mask(classes)
    return mask
