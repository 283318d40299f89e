"""What EMA is: the EM iteration on a set of feature vectors. Knows tensors only.

Lowest floor: imports torch, nothing of emastudy.
"""

from emastudy.em.steps import (
    EMResult,
    Normalization,
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
    "expectation_maximization",
    "normalize",
    "objective",
    "reconstruct",
    "responsibilities",
    "update_bases",
]
