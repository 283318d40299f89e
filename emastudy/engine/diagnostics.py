"""Looking inside a network while it looks at an image."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int, Integer
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from emastudy.datasets import SegmentationDataset, evaluation_transform
from emastudy.errors import InputError
from emastudy.networks import EMAU, SegmentationNetwork, WindowedEMAU

#: Cosine above which two bases are one.
SAME = 0.99


def unit_of(network: SegmentationNetwork) -> EMAU:
    """The network's EMA unit, for questions about EM over the whole map."""
    for module in network.modules():
        if isinstance(module, WindowedEMAU):
            raise InputError(
                "the network's EMA unit runs EM in windows; this asks for EM over the whole map: "
                "take head='ema', or look at unit.attend"
            )
        if isinstance(module, EMAU):
            return module
    raise InputError("the network has no EMA unit; build it with head='ema'")


def unit_of_one_head(network: SegmentationNetwork) -> EMAU:
    """The network's EMA unit, for questions that number its bases."""
    unit = unit_of(network)
    if unit.heads > 1:
        raise InputError(
            f"the network's EMA unit has heads={unit.heads}, and a pixel a basis in each; this "
            "asks for the one basis of a pixel: take a network with heads=1, or look at unit.attend"
        )
    return unit


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


@contextmanager
def iterating(unit: EMAU, iterations: int) -> Iterator[None]:
    """Within the context the unit does so many iterations; then as many as before."""
    usual = unit.num_iterations
    unit.num_iterations = iterations
    try:
        yield
    finally:
        unit.num_iterations = usual


@torch.inference_mode()
def responsibility_maps(
    network: SegmentationNetwork,
    dataset: SegmentationDataset,
    index: int,
    iterations: Sequence[int],
) -> Float[Tensor, "t k h w"]:
    """Responsibilities of one image by a unit of one head, as maps.

    Args:
        iterations: Numbers of iterations to stop at; the unit's own number is left as it was.

    Returns:
        (len(iterations), K, h, w): entry (t, k) is ``z[0, :, k]`` as a map, 0-1, summing to one
        over k. The unit's input has h×w pixels.
    """
    image, _ = evaluation_transform(dataset)(*dataset[index])
    unit = unit_of_one_head(network)
    features = unit_input(network, image[None].to(next(network.parameters()).device))
    maps = []
    for number in iterations:
        with iterating(unit, number):
            z = unit.attend(features).responsibilities[0]
        maps.append(z.T.reshape(-1, *features.shape[-2:]))
    return torch.stack(maps).cpu()


def labels_at(mask: Integer[Tensor, "H W"], height: int, width: int) -> Int[Tensor, "h w"]:
    """The class under the centre of every pixel of a smaller map."""
    rows = (torch.arange(height) + 0.5) * mask.shape[0] / height
    columns = (torch.arange(width) + 0.5) * mask.shape[1] / width
    return mask.as_subclass(Tensor)[rows.long()][:, columns.long()].long()


def em_inputs(
    network: SegmentationNetwork, dataset: SegmentationDataset, indices: Iterable[int]
) -> Iterator[tuple[Float[Tensor, "*heads n d"], Float[Tensor, "*heads k d"], Int[Tensor, " n"]]]:
    """What the unit's EM works on, image by image.

    Yields:
        Features X (N, C) and starting bases μ^(0) (K, C), or (H, N, C/H) and (H, K, C/H) of several
        heads, on the network's device; and the class of every pixel of the feature map
        (255 = ignored), on the CPU.
    """
    unit = unit_of(network)
    device = next(network.parameters()).device
    for index in indices:
        image, mask = evaluation_transform(dataset)(*dataset[index])
        with torch.inference_mode():
            features = unit_input(network, image[None].to(device))
            x, start = unit.em_input(features)
        labels = labels_at(mask, *features.shape[-2:]).flatten()
        yield x[0], start[0] if start.ndim == x.ndim else start, labels


def effective_rank(x: Float[Tensor, "*b n c"]) -> Float[Tensor, "*b"]:
    r"""The number of directions that matter: exp of the entropy of the singular values.

    .. math:: \exp\Big(-\sum_i p_i \log p_i\Big), \qquad p_i = \sigma_i / \sum_j \sigma_j

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007.
    """
    values = torch.linalg.svdvals(x)
    shares = values / values.sum(dim=-1, keepdim=True)
    entropy: Tensor = torch.special.entr(shares).sum(dim=-1)
    return entropy.exp()


def distinct_bases(bases: Float[Tensor, "*b k c"]) -> Int[Tensor, "*b"]:
    """How many different directions there are among bases.

    Bases whose cosine is above 0.99 count as one, directly or through a chain of others, whose
    ends may be farther apart than that. Of bases that coincide EM makes what it makes of one
    with a larger weight; of these, nearly so, and until EM has converged they may still part.
    """
    groups = [basis_groups(one) for one in bases.reshape(-1, *bases.shape[-2:])]
    return torch.tensor([int(group.max()) + 1 for group in groups]).reshape(bases.shape[:-2])


def basis_groups(bases: Float[Tensor, "k c"]) -> Int[Tensor, " k"]:
    """The number of the group that each basis is in, see :func:`distinct_bases`."""
    unit = torch.nn.functional.normalize(bases.double(), dim=-1)
    _, groups = connected_components((unit @ unit.mT > SAME).cpu().numpy())
    return torch.from_numpy(groups).long()
