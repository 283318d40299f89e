"""Worse photographs on purpose: noise, blur, lost contrast, JPEG, at five severities.

Noise, contrast and JPEG have the strengths of Hendrycks and Dietterich, "Benchmarking neural
network robustness to common corruptions and perturbations", ICLR 2019. Their blur is a disc in
images of 224 pixels; ours is Gaussian, with a width that grows with the image.
"""

import io

import torch
from PIL import Image as PILImage
from torch import Tensor

from emastudy.datasets.base import as_image
from emastudy.errors import InputError

#: Kind → strength at severity 1, …, 5.
CORRUPTIONS: dict[str, tuple[float, ...]] = {
    # Standard deviation of Gaussian noise, full scale = 1.
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    # Standard deviation of the blur in 224ths of the image's longer side.
    "blur": (1, 2, 3, 4, 6),
    # Factor on the difference to the image's mean colour.
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    # JPEG quality.
    "jpeg": (25, 18, 15, 10, 7),
}


def corrupt(image: Tensor, index: int, *, kind: str, severity: int) -> Tensor:
    """A corrupted copy of an image; a ``View`` of a dataset takes it as its ``change``.

    Args:
        image: (3, H, W) uint8.
        index: The image's number, which seeds the noise.
        kind: One of ``CORRUPTIONS``.
        severity: 1 (weak) to 5.

    Raises:
        ValueError: Unknown kind or severity.
    """
    from torchvision.transforms.v2 import functional as F

    if kind not in CORRUPTIONS:
        raise InputError(f"corruption is {kind!r}; there are {', '.join(CORRUPTIONS)}")
    if not 1 <= severity <= len(CORRUPTIONS[kind]):
        raise InputError(f"severity is {severity}; expected 1 to {len(CORRUPTIONS[kind])}")
    strength = CORRUPTIONS[kind][severity - 1]
    if kind == "jpeg":
        file = io.BytesIO()
        F.to_pil_image(image).save(file, "JPEG", quality=int(strength))
        return as_image(F.pil_to_tensor(PILImage.open(file)))
    if kind == "blur":
        sigma = strength * max(image.shape[-2:]) / 224
        side = 2 * min(round(3 * sigma), (min(image.shape[-2:]) - 1) // 2) + 1
        return as_image(F.gaussian_blur(image, [side, side], [sigma, sigma]))
    pixels = image.as_subclass(Tensor).float() / 255
    if kind == "noise":
        generator = torch.Generator().manual_seed(index)
        pixels = pixels + strength * torch.randn(pixels.shape, generator=generator)
    else:
        mean = pixels.mean(dim=(-2, -1), keepdim=True)
        pixels = mean + strength * (pixels - mean)
    return as_image((255 * pixels.clamp(0, 1)).round().to(torch.uint8))
