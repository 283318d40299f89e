"""A photograph on its way through a trained network's EMA unit, step by step."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emastudy import em
from emastudy.datasets import SegmentationDataset, pad_to_grid
from emastudy.engine.diagnostics import basis_groups, unit_input, unit_of
from emastudy.engine.scoring import predict
from emastudy.networks import SegmentationNetwork


@dataclass(frozen=True)
class Walkthrough:
    """What EM does with one photograph, as arrays to draw.

    Bases in one place do what one basis of a larger weight would do. They are drawn as one: a group
    is what is in one place (cosines above 0.99) after the last iteration, the largest group first,
    and its map is the sum of its members' responsibilities.

    Attributes:
        image: (H, W, 3), from 0 to 1.
        mask: (H, W), the network's class of every pixel.
        classes: Names of the classes.
        colors: RGB of the classes.
        similarity: (T, G, h, w): inner product of every pixel with the group's mean basis, from
            which each iteration starts.
        maps: (T, G, h, w): share of every pixel that the group takes, in each iteration.
        sizes: (G,): number of bases in the group.
        features: (N, C), what EM works on.
        estimate: (N, C), the same rebuilt from the bases, before the unit's ReLU.
    """

    image: Float[np.ndarray, "H W 3"]
    mask: Int[np.ndarray, "H W"]
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    similarity: Float[np.ndarray, "t g h w"]
    maps: Float[np.ndarray, "t g h w"]
    sizes: Int[np.ndarray, " g"]
    features: Float[np.ndarray, "n c"]
    estimate: Float[np.ndarray, "n c"]

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
    """Follow a photograph through the network's unit.

    Args:
        network: Of ``networks.from_pretrained``, with an EMA unit.
        image: RGB from 0 to 1.
        num_iterations: T.
    """
    from torchvision.transforms.v2.functional import normalize

    unit = unit_of(network)
    seen = normalize(image, SegmentationDataset.mean, SegmentationDataset.std)
    features = unit_input(network, pad_to_grid(seen[None]))
    x, start = unit.em_input(features)
    steps = [
        em.expectation_maximization(
            x[0], start.reshape(-1, *start.shape[-2:])[0], t,
            concentration=unit.concentration, normalization=unit.normalization,
        )
        for t in range(1, num_iterations + 1)
    ]  # fmt: skip
    groups = torch.nn.functional.one_hot(basis_groups(steps[-1].bases)).float()
    taken = steps[-1].responsibilities.sum(dim=0) @ groups
    groups = groups[:, taken.argsort(descending=True)]
    sizes = groups.sum(dim=0)
    before = [start.reshape(-1, *start.shape[-2:])[0], *(step.bases for step in steps[:-1])]
    side = features.shape[-2:]

    def as_maps(values: list[Tensor]) -> Float[np.ndarray, "t g h w"]:
        maps: np.ndarray = torch.stack(values).mT.reshape(len(values), -1, *side).numpy()
        return maps

    return Walkthrough(
        image=image.permute(1, 2, 0).numpy(),
        mask=predict(network, (image * 255).round().byte(), SegmentationDataset).numpy(),
        classes=network.classes,
        colors=network.colors,
        similarity=as_maps([x[0] @ bases.mT @ groups / sizes for bases in before]),
        maps=as_maps([step.responsibilities @ groups for step in steps]),
        sizes=sizes.int().numpy(),
        features=x[0].numpy(),
        estimate=em.reconstruct(steps[-1].responsibilities, steps[-1].bases).numpy(),
    )
