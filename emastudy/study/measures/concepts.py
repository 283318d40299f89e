"""What the bases know of the classes."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from emastudy.options import NonNegativeInt
from emastudy.study.measures.subject import Row, Subject, register


@register("concepts")
def concepts(subject: Subject, *, images: NonNegativeInt = 64) -> list[Row]:
    r"""How much the bases know of the classes, in unseen images.

    The measure is the mutual information of a pixel's basis, argmax_k z_nk, and its class, over
    the pixels of all images together, so a basis must mean the same in every image to count:

    .. math:: I = \sum_{k,c} p_{kc} \log \frac{p_{kc}}{p_k p_c}

    Returns:
        One row: "information" (nats, after 1, …, T iterations), "random_bases" (the same from
        random unit vectors, equal for all images, in place of the trained μ^(0)), "matched" (after
        T iterations), "shuffled" (the same with the bases renumbered at random in every image:
        what is left is knowledge of the single image's bases by chance), "entropy" of the classes
        (nats, the most that is possible), and "counts" (K, classes): pixels by basis and class.
    """
    row, counts = _known(subject, images, _taken)
    return [row | {"counts": counts.long().tolist()}]


@register("soft_concepts")
def soft_concepts(subject: Subject, *, images: NonNegativeInt = 64) -> list[Row]:
    r"""The same as :func:`concepts` with the responsibilities themselves in place of the argmax.

    p_kc is in proportion to Σ_n z_nk 1[y_n = c]: what a basis tells that is drawn for each pixel by
    its responsibilities. Among merged bases the argmax is decided by tiny differences, which the
    responsibilities, and with them the unit's output, hardly show.

    Returns:
        One row: "information", "random_bases", "matched", "shuffled" and "entropy" as there.
    """
    return [_known(subject, images, _shared)[0]]


def mutual_information(counts: Float[Tensor, "k c"]) -> float:
    """Mutual information of two discrete variables from their joint counts, in nats."""
    # Not scikit-learn's: on a cluster it need not be installed.
    joint = counts / counts.sum()
    apart = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    return float(torch.special.xlogy(joint, joint / apart.clamp_min(1e-300)).sum())


def _known(
    subject: Subject, images: int, count: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Row, Float[Tensor, "k c"]]:
    """A measurement's row, and the counts after T iterations from the trained bases."""
    trained, random, shuffled = _joint_counts(subject, images, count)
    information = [mutual_information(table) for table in trained]
    final = trained[-1]
    row: Row = {
        "information": information,
        "random_bases": [mutual_information(table) for table in random],
        "matched": information[-1],
        "shuffled": mutual_information(shuffled),
        "entropy": float(torch.special.entr(final.sum(dim=0) / final.sum()).sum()),
    }
    return row, final


def _taken(z: Float[Tensor, "n k"], truth: Float[Tensor, "n c"]) -> Float[Tensor, "k c"]:
    """Pixels by basis and class; a pixel is its likeliest basis's."""
    return one_hot(z.argmax(dim=-1), z.shape[-1]).double().mT @ truth


def _shared(z: Float[Tensor, "n k"], truth: Float[Tensor, "n c"]) -> Float[Tensor, "k c"]:
    """Pixels by basis and class; a pixel is shared among the bases as z says."""
    return z.double().mT @ truth


def _joint_counts(
    subject: Subject, images: int, count: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Float[Tensor, "t k c"], Float[Tensor, "t k c"], Float[Tensor, "k c"]]:
    """Pixels by basis and class: after 1, …, T iterations from the trained bases and from random
    ones, and after T from the trained ones, renumbered in every image.
    """
    unit, classes = subject.unit_of_one_head, len(subject.dataset.classes)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(unit.num_bases, unit.conv1.out_channels, generator=generator)
    noise = torch.nn.functional.normalize(noise, dim=-1)
    shape = unit.num_iterations, unit.num_bases, classes
    trained, random = torch.zeros(2, *shape, dtype=torch.float64)
    shuffled = torch.zeros(shape[1:], dtype=torch.float64)
    for x, start, labels in subject.inputs(images):
        numbers = torch.randperm(unit.num_bases, generator=generator)
        kept = labels < classes
        truth = one_hot(labels[kept], classes).double()
        for total, bases in ((trained, start), (random, noise.to(x))):
            for step in range(unit.num_iterations):
                z = subject.em(x, bases, step + 1).responsibilities.cpu()
                counts = count(z[..., kept, :].reshape(-1, unit.num_bases), truth)
                total[step] += counts
                if total is trained and step == unit.num_iterations - 1:
                    shuffled += counts[numbers]
    return trained, random, shuffled
