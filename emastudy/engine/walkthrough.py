"""A photograph on its way through a trained network's EMA unit, step by step."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emastudy import em
from emastudy.datasets import pad_to_grid
from emastudy.engine.diagnostics import basis_groups, unit_input, unit_of_one_head
from emastudy.engine.scoring import predict
from emastudy.networks import SegmentationNetwork


@dataclass(frozen=True)
class Walkthrough:
    """What EM does with one photograph, as arrays to draw.

    Bases in one place do what one basis of a larger weight would do. They are drawn as one: a group
    is what is in one place (cosines above 0.99) after the last iteration, and its map is the sum of
    its members' responsibilities.
    """

    image: Float[np.ndarray, "H W 3"]  #: From 0 to 1.
    mask: Int[np.ndarray, "H W"]  #: The network's class of every pixel.
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]  #: RGB of the classes.
    #: Inner product of every pixel with every basis, from which each iteration starts.
    products: Float[np.ndarray, "t k h w"]
    #: Share of every pixel that each basis takes, in each iteration.
    responsibilities: Float[np.ndarray, "t k h w"]
    group: Int[np.ndarray, " k"]  #: Of each basis; group 0 takes the most pixels.
    features: Float[np.ndarray, "n c"]  #: What EM works on.
    estimate: Float[np.ndarray, "n c"]  #: The same rebuilt from bases, before the unit's ReLU.

    @property
    def sizes(self) -> Int[np.ndarray, " g"]:
        """Number of bases in each group."""
        return np.bincount(self.group)

    @property
    def maps(self) -> Float[np.ndarray, "t g h w"]:
        """Share of every pixel that each group takes, in each iteration."""
        return self._summed(self.responsibilities)

    @property
    def similarity(self) -> Float[np.ndarray, "t g h w"]:
        """Inner product of every pixel with a group's mean basis, at each iteration's start."""
        mean: np.ndarray = self._summed(self.products) / self.sizes[:, None, None]
        return mean

    def _summed(self, values: Float[np.ndarray, "t k h w"]) -> Float[np.ndarray, "t g h w"]:
        groups = range(len(self.sizes))
        return np.stack([values[:, self.group == g].sum(axis=1) for g in groups], axis=1)

    def examples(self, most: int) -> list[int]:
        """Bases to draw: of every group in turn the one that takes the most pixels, then the next.

        At ``most`` so many.
        """
        taken = self.responsibilities[-1].sum(axis=(1, 2))
        place = np.empty(len(taken), dtype=int)
        for group in range(len(self.sizes)):
            members = np.flatnonzero(self.group == group)
            place[members[np.argsort(-taken[members])]] = np.arange(len(members))
        return sorted(range(len(taken)), key=lambda k: (place[k], self.group[k]))[:most]

    @property
    def mean_colors(self) -> Float[np.ndarray, "t g 3"]:
        """The photograph's mean colour under each map: the M step, done to colours."""
        shares = self.maps.reshape(*self.maps.shape[:2], -1)
        grid = self.small_image.reshape(-1, 3)
        colors: np.ndarray = shares @ grid / shares.sum(axis=-1, keepdims=True)
        return colors

    @property
    def small_image(self) -> Float[np.ndarray, "h w 3"]:
        """The photograph at the resolution of the maps."""
        height, width = self.maps.shape[-2:]
        rows = np.linspace(0, self.image.shape[0] - 1, height).round().astype(int)
        columns = np.linspace(0, self.image.shape[1] - 1, width).round().astype(int)
        small: np.ndarray = self.image[rows][:, columns]
        return small


@torch.inference_mode()
def walk_through(
    network: SegmentationNetwork, image: Float[Tensor, "3 h w"], *, num_iterations: int = 3
) -> Walkthrough:
    """Follow a photograph, RGB from 0 to 1, through the unit of a ``from_pretrained`` network."""
    from torchvision.transforms.v2.functional import normalize

    unit = unit_of_one_head(network)
    seen = normalize(image, network.mean, network.std)
    features = unit_input(network, pad_to_grid(seen[None], network.output_stride))
    inputs, starts = unit.em_input(features)
    x, start = inputs[0], starts.reshape(-1, *starts.shape[-2:])[0]
    concentration = unit.concentrations(inputs)
    if isinstance(concentration, torch.Tensor) and concentration.ndim:
        concentration = concentration[0]
    options: dict[str, Any] = {"normalization": unit.normalization, "concentration": concentration}
    counts = range(1, num_iterations + 1)
    steps = [em.expectation_maximization(x, start, count, **options) for count in counts]
    groups = basis_groups(steps[-1].bases)
    taken = torch.zeros(int(groups.max()) + 1)
    taken.index_add_(0, groups, steps[-1].responsibilities.sum(dim=0))

    def as_maps(values: list[Tensor]) -> Float[np.ndarray, "t g h w"]:
        stacked = torch.stack(values).mT
        maps: np.ndarray = stacked.reshape(len(values), -1, *features.shape[-2:]).numpy()
        return maps

    return Walkthrough(
        image=image.permute(1, 2, 0).numpy(),
        mask=predict(network, (image * 255).round().byte(), network).numpy(),
        classes=network.classes,
        colors=network.colors,
        products=as_maps([x @ bases.mT for bases in (start, *(s.bases for s in steps[:-1]))]),
        responsibilities=as_maps([step.responsibilities for step in steps]),
        group=taken.argsort(descending=True).argsort()[groups].numpy(),
        features=x.numpy(),
        estimate=em.reconstruct(steps[-1].responsibilities, steps[-1].bases).numpy(),
    )


def change(x: Float[np.ndarray, "n c"], moved: Float[np.ndarray, "n c"]) -> float:
    r"""How far features moved, :math:`\lVert X' - X\rVert / \lVert X\rVert`."""
    return float(np.linalg.norm(moved - x) / np.linalg.norm(x))
