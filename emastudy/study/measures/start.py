"""Whether the bases of the shared start stay together under the moving average."""

from functools import partial

import torch
from torch.nn.functional import normalize

from emastudy.em.gradients import shared_start_growth
from emastudy.engine.diagnostics import SAME
from emastudy.errors import InputError
from emastudy.options import NonNegativeInt
from emastudy.study.measures.subject import Row, Subject, register


@register("start")
def start(subject: Subject, *, images: NonNegativeInt = 16) -> list[Row]:
    """What Theorem 8 predicts for a trained network's shared start μ^(0), beside what it is.

    Returns:
        One row: "num_bases"; "members", for each basis how many lie within cosine 0.99 of it,
        itself included; "growth", γ of ``em.gradients.shared_start_growth``, in unseen images:
        an update multiplies a difference by α + (1 - α) γ; "threshold", the concentration
        above which a start with all bases in one place parts, and "concentration", λ.
    """
    unit = subject.unit_of_one_head
    if unit.concentration_scale == "critical":
        raise InputError(
            "concentration_scale is 'critical': every image has a concentration of its own, while "
            "this measure needs one for all; take a unit with another scale"
        )
    inputs = [(x.double(), bases.double()) for x, bases, _ in subject.inputs(images)]
    features, bases = [x for x, _ in inputs], inputs[0][1]
    with torch.no_grad():
        concentration = float(unit.concentrations(features[0]))
    grow = partial(
        shared_start_growth, features, concentration=concentration, normalization=unit.normalization
    )
    growth, merged = (grow(some, unit.num_iterations) for some in (bases, bases[:1]))
    directions = normalize(bases, dim=-1)
    members = (directions @ directions.mT > SAME).sum(dim=1)
    return [
        {
            "num_bases": unit.num_bases,
            "members": members.tolist(),
            "growth": growth.tolist(),
            "threshold": concentration * float(merged[0]) ** (-1 / unit.num_iterations),
            "concentration": concentration,
        }
    ]
