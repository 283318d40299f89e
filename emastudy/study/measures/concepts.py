"""What the bases know of the classes."""

import torch
from jaxtyping import Float
from torch import Tensor

from emastudy.study.measures.subject import Row, Subject, register


@register("concepts")
def concepts(subject: Subject, *, images: int = 64) -> list[Row]:
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
    trained, random, shuffled = _joint_counts(subject, images)
    information = [mutual_information(table) for table in trained]
    final = trained[-1]
    return [
        {
            "information": information,
            "random_bases": [mutual_information(table) for table in random],
            "matched": information[-1],
            "shuffled": mutual_information(shuffled),
            "entropy": float(torch.special.entr(final.sum(dim=0) / final.sum()).sum()),
            "counts": final.long().tolist(),
        }
    ]


def mutual_information(counts: Float[Tensor, "k c"]) -> float:
    """Mutual information of two discrete variables from their joint counts, in nats."""
    # Not scikit-learn's: on a cluster it need not be installed.
    joint = counts / counts.sum()
    apart = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    return float(torch.special.xlogy(joint, joint / apart.clamp_min(1e-300)).sum())


def _joint_counts(
    subject: Subject, images: int
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
        for total, bases in ((trained, start), (random, noise.to(x))):
            for step in range(unit.num_iterations):
                z = subject.em(x, bases, step + 1).responsibilities
                pairs = z.argmax(dim=-1).cpu()[kept] * classes + labels[kept]
                counts = torch.bincount(pairs, minlength=unit.num_bases * classes)
                total[step] += counts.reshape(shape[1:])
                if total is trained and step == unit.num_iterations - 1:
                    shuffled += counts.reshape(shape[1:])[numbers]
    return trained, random, shuffled
