"""How many different bases there are."""

import torch

from emastudy.em.gradients import critical_concentration
from emastudy.engine.diagnostics import distinct_bases
from emastudy.options import NonNegativeInt, PositiveInt
from emastudy.study.measures.subject import Row, Subject, register


@register("distinct")
def distinct(
    subject: Subject, *, iterations: PositiveInt = 8, images: NonNegativeInt = 64
) -> list[Row]:
    """How many different bases there are, in unseen images, and why.

    They are counted after each of so many ``iterations``, whatever T the network has.

    Returns:
        One row: "num_bases", "distinct" (means over images and heads of
        ``diagnostics.distinct_bases`` of μ^(0), …, μ^(iterations)) and "critical"
        (``em.gradients.critical_concentration`` of every image, head by head, for the unit's
        normalisation).
    """
    unit = subject.unit
    counts, critical = [], []
    for x, bases, _ in subject.inputs(images):
        course = [bases]
        for _ in range(iterations):
            course.append(subject.em(x, course[-1], 1).bases)
        counts.append(distinct_bases(torch.stack(course)).reshape(iterations + 1, -1))
        found = critical_concentration(x.double(), normalization=unit.normalization)
        critical += found.flatten().tolist()
    means = torch.stack(counts).double().mean(dim=(0, 2)).tolist()
    return [{"num_bases": unit.num_bases, "distinct": means, "critical": critical}]
