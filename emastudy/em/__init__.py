"""What EMA is: the EM iteration on a set of feature vectors. Knows tensors only.

One legend for the whole package, the paper's letters:

    ==================  =========  ===========================================================
    ``x``               (…, N, C)  features of the N pixels of an image, X
    ``bases``           (…, K, C)  the K bases, μ; those that EM starts from are μ^(0)
    ``z``               (…, N, K)  responsibilities, Z: z_nk ≥ 0, Σ_k z_nk = 1
    ``concentration``   λ          of the softmax, > 0; a number, or (…), one for each batch
    ``num_iterations``  T          number of iterations, ≥ 1
    ``normalization``              of the bases in an iteration, see :func:`normalize`;
                                   "gaussian" changes the exponent of the E step instead
    ==================  =========  ===========================================================

Leading dimensions (…) are batch dimensions and broadcast: ``bases`` of shape (K, C) serve every
image of an ``x`` of shape (B, N, C). All quantities are dimensionless. Beside the steps stand three
modules that explain them: ``mixtures`` (the likelihoods that EM climbs), ``gradients`` (how to
differentiate through it) and ``relatives`` (non-local, A², slot attention, matrix factorisation in
the same letters).

Source: Li et al., "Expectation-Maximization Attention Networks for Semantic Segmentation",
ICCV 2019, Sections 4 and 5.3.
"""

from emastudy.em import gradients, mixtures, relatives
from emastudy.em.iteration import Normalization, Projected, normalize
from emastudy.em.steps import (
    EMResult,
    Gradient,
    expectation_maximization,
    falls,
    objective,
    reconstruct,
    responsibilities,
    update_bases,
)

__all__ = [
    "EMResult",
    "Gradient",
    "Normalization",
    "Projected",
    "expectation_maximization",
    "falls",
    "gradients",
    "mixtures",
    "normalize",
    "objective",
    "reconstruct",
    "relatives",
    "responsibilities",
    "update_bases",
]
