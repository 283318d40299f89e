r"""Scenes: synthetic images with exact labels, in which context is worth something.

The generative model, image by image:

1. *Regions.* ``num_regions`` seeds fall uniformly on the image; each pixel belongs to the seed
   nearest to its warped position (a smooth random displacement, so that borders curve). Each
   region gets one of the ``num_classes`` classes, drawn uniformly.
2. *Texture.* Class c shows a fixed colour plus a grating of fixed frequency, direction and colour,
   whose phase is drawn per region.
3. *Style.* One colour offset ``s ~ N(0, style² I)`` is added to the whole image.
4. *Noise.* ``N(0, noise² I)`` is added to every pixel independently.

A small window cannot tell class from style: a reddish patch may be the red class, or a grey one
under reddish light. The image as a whole can, because the style is shared by all of its regions;
and the many pixels of a class, wherever they lie, average the noise away. Both are what attention
over all pixels can use, and the truth is known exactly. Colours, gratings, style and noise are in
units of full scale (0-1).
"""

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch

from emastudy import options
from emastudy.datasets.base import (
    IGNORE,
    Color,
    SegmentationDataset,
    as_image,
    as_mask,
    require_split,
)
from emastudy.datasets.fingerprint import Fingerprint, digest
from emastudy.options import NonNegativeFloat, PositiveInt, Range, Seed

SPLITS = ("train", "val", "test")
# The palette belongs to the world, not to a run: every seed draws from the same classes.
_WORLD_SEED = 2019


class Scenes(SegmentationDataset):
    """An endless supply of labelled scenes, deterministic in (seed, split, index).

    Args:
        split: "train", "val" or "test": independent streams of images.
        num_images: Length of the dataset.
        num_classes: Number of texture classes, 2 to 64.
        size: Side of the square images, in pixels.
        num_regions: Regions per image.
        style: Standard deviation of the image-wide colour offset, full scale = 1.
        noise: Standard deviation of the pixel noise, full scale = 1.
        seed: Which stream of images.

    Raises:
        ValueError: An argument out of its range, named in the message.
    """

    name = "scenes"
    title = "Scenes, drawn from a known generative model: 2 to 64 textures, no files needed"
    licence = "made on the spot"
    citation = ""
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    @options.checked
    def __init__(
        self,
        split: str = "train",
        *,
        num_images: PositiveInt = 2000,
        num_classes: Annotated[int, Range(2, 64)] = 8,
        size: Annotated[int, Range(least=8)] = 64,
        num_regions: PositiveInt = 12,
        style: NonNegativeFloat = 0.05,
        noise: NonNegativeFloat = 0.3,
        seed: Seed = 0,
    ) -> None:
        require_split(split, "scenes", SPLITS)
        self.split, self.num_images, self.size = split, num_images, size
        self.num_regions, self.style, self.noise = num_regions, style, noise
        self._key = (seed, SPLITS.index(split))

        world = np.random.default_rng(_WORLD_SEED)
        # Colours around grey on a sphere of radius 0.2: no class is told by brightness alone.
        color = world.normal(size=(64, 3))
        color = 0.5 + 0.2 * color / np.linalg.norm(color, axis=1, keepdims=True)
        self._color = color[:num_classes].astype(np.float32)
        angle = world.uniform(0, math.pi, 64)
        period = world.uniform(4, 10, 64)  # pixels
        wave = 2 * math.pi / period[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        self._wave = wave[:num_classes].astype(np.float32)
        tint = world.normal(size=(64, 3))
        tint = 0.1 * tint / np.linalg.norm(tint, axis=1, keepdims=True)
        self._tint = tint[:num_classes].astype(np.float32)
        self.classes = tuple(f"texture {c}" for c in range(num_classes))
        self._rows, self._columns = np.mgrid[:size, :size].astype(np.float32)

    @classmethod
    def default_palette(cls, classes: Sequence[str]) -> list[Color]:
        """Colours spread around the hue circle."""
        hue = np.arange(len(classes))[:, None] / len(classes) + np.array([0, 1 / 3, 2 / 3])
        rgb = (127 + 110 * np.cos(2 * math.pi * hue)).astype(int)
        return [(r, g, b) for r, g, b in rgb.tolist()]

    def __len__(self) -> int:
        return self.num_images

    def fingerprint(self) -> Fingerprint:
        """The parameters, which determine every pixel."""
        drawn = (self.size, self.num_regions, float(self.style), float(self.noise), *self._key)
        key = digest(drawn)
        return Fingerprint(self.name, self.split, len(self), self.classes, (IGNORE,), content=key)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < self.num_images:
            raise IndexError(f"image {index} of {self.num_images}")
        rng = np.random.default_rng((*self._key, index))
        size, regions = self.size, self.num_regions

        seeds = rng.uniform(0, size, (regions, 2)).astype(np.float32)
        classes = rng.integers(len(self.classes), size=regions)
        # A sine wave per axis bends the borders; at 5 % of the side regions stay whole.
        bend = rng.uniform(0, 2 * math.pi, 2).astype(np.float32)
        swing, turns = np.float32(0.05 * size), np.float32(2 * math.pi * 1.5 / size)
        rows = self._rows + swing * np.sin(turns * self._columns + bend[0])
        columns = self._columns + swing * np.sin(turns * self._rows + bend[1])
        distance = np.square(rows - seeds[:, 0, None, None])
        distance += np.square(columns - seeds[:, 1, None, None])
        region = distance.argmin(axis=0)
        mask = classes[region]

        phase = rng.uniform(0, 2 * math.pi, regions).astype(np.float32)[region]
        wave = self._wave[mask]
        grating = np.sin(wave[..., 0] * self._rows + wave[..., 1] * self._columns + phase)
        image = self._color[mask] + grating[..., None] * self._tint[mask]
        image += (self.style * rng.standard_normal(3)).astype(np.float32)
        image += np.float32(self.noise) * rng.standard_normal((size, size, 3), dtype=np.float32)
        pixels = np.clip(image * 255, 0, 255).astype(np.uint8)
        return (
            as_image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous()),
            as_mask(torch.from_numpy(mask.astype(np.uint8))),
        )
