"""What EMA is: the EM iteration on a set of feature vectors. Knows tensors only.

Lowest floor: imports torch, nothing of emastudy. Beside the steps stand three modules that explain
them: ``mixtures`` (the likelihoods that EM climbs, with the special functions of
``von_mises_fisher``), ``gradients`` (how to differentiate through it) and ``relatives`` (non-local,
A², slot attention, matrix factorisation in the same letters).
"""

from emastudy.em import gradients, mixtures, relatives
from emastudy.em.steps import (
    EMResult,
    Normalization,
    Projected,
    expectation_maximization,
    normalize,
    objective,
    reconstruct,
    responsibilities,
    update_bases,
)

__all__ = [
    "EMResult",
    "Normalization",
    "Projected",
    "expectation_maximization",
    "gradients",
    "mixtures",
    "normalize",
    "objective",
    "reconstruct",
    "relatives",
    "responsibilities",
    "update_bases",
]
