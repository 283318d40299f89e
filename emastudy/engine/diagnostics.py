"""Looking inside a network while it looks at an image.

Floor: engine.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from emastudy.datasets import SegmentationDataset, evaluation_transform
from emastudy.networks import EMAU, SegmentationNetwork


def unit_of(network: SegmentationNetwork) -> EMAU:
    """The network's EMA unit.

    Raises:
        ValueError: It has none.
    """
    for module in network.modules():
        if isinstance(module, EMAU):
            return module
    raise ValueError("the network has no EMA unit; build it with head='ema'")


@torch.inference_mode()
def unit_input(network: SegmentationNetwork, image: Float[Tensor, "b 3 h w"]) -> Tensor:
    """The feature map (B, C, h, w) that enters the network's EMA unit, for normalised images."""
    seen: list[Tensor] = []
    hook = unit_of(network).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        network.eval()(image)
    finally:
        hook.remove()
    return seen[0]


@torch.inference_mode()
def responsibility_maps(
    network: SegmentationNetwork,
    dataset: SegmentationDataset,
    index: int,
    iterations: Sequence[int],
) -> Float[Tensor, "t k h w"]:
    """Responsibilities of one image after 1, 2, … iterations, as maps.

    Args:
        network: A network with an EMA unit, on any device.
        dataset: Where the image is.
        index: Which image.
        iterations: Numbers of iterations to stop at; the unit's own number is left as it was.

    Returns:
        (len(iterations), K, h, w): entry (t, k) is ``z[0, :, k]`` as a map, 0-1, summing to one
        over k. The unit's input has h×w pixels.
    """
    image, _ = evaluation_transform(dataset)(*dataset[index])
    unit = unit_of(network)
    features = unit_input(network, image[None].to(next(network.parameters()).device))
    usual = unit.num_iterations
    maps = []
    try:
        for number in iterations:
            unit.num_iterations = number
            z = unit.attend(features).responsibilities[0]
            maps.append(z.T.reshape(-1, *features.shape[-2:]))
    finally:
        unit.num_iterations = usual
    return torch.stack(maps).cpu()


def basis_class_mass(
    responsibilities: Float[Tensor, "k h w"], mask: Integer[Tensor, "H W"], num_classes: int
) -> Float[Tensor, "k c"]:
    """How much of each basis' responsibility falls on pixels of each class.

    Args:
        responsibilities: Maps of one image, see :func:`responsibility_maps`.
        mask: Class indices at the image's size; ignored pixels (255) count for no class.
        num_classes: C.

    Returns:
        (K, C): sum of z_nk over the pixels n of class c, in feature-map pixels.
    """
    size = responsibilities.shape[-2:]
    rows = (torch.arange(size[0]) + 0.5) * mask.shape[0] / size[0]
    columns = (torch.arange(size[1]) + 0.5) * mask.shape[1] / size[1]
    small = mask.as_subclass(Tensor)[rows.long()][:, columns.long()].flatten().long()
    kept = small < num_classes
    onehot = torch.nn.functional.one_hot(small[kept], num_classes).to(responsibilities.dtype)
    return responsibilities.flatten(1)[:, kept] @ onehot
