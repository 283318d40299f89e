r"""EMA's relatives in EMA's letters, those of :mod:`emastudy.em`, each as short as its equation.

Learnt projections around them are left out, because they are the same 1×1 convs everywhere.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emastudy.em.iteration import Normalization
from emastudy.em.steps import EMResult, reconstruct, responsibilities, update_bases
from emastudy.errors import InputError, require


def non_local(x: Float[Tensor, "*b n c"], *, concentration: float = 1.0) -> Float[Tensor, "*b n c"]:
    r"""Non-local attention with the kernel exp(λ x_iᵀx_j) and g the identity.

    .. math:: y_i = \frac{1}{c_i} \sum_j \exp(\lambda x_i^\top x_j)\, x_j,\qquad
        c_i = \sum_j \exp(\lambda x_i^\top x_j)

    Source: Wang et al., "Non-local Neural Networks", CVPR 2018, Eqs 1 and 3.
    """
    return F.scaled_dot_product_attention(x, x, x, scale=concentration)


def attention_matrix(
    x: Float[Tensor, "*b n c"], z: Float[Tensor, "*b n k"], *, normalization: Normalization = "l2"
) -> Float[Tensor, "*b n n"]:
    r"""The N×N attention matrix that EMA never writes down: :math:`\tilde X = W X`.

    .. math:: W = Z D^{-1} Z^\top, \qquad D = \mathrm{diag}(d_k), \quad \mu_k = s_k / d_k,
        \quad s_k = \sum_n z_{nk} x_n

    because the paper's X̃ takes the same Z as the last M step. W is symmetric, positive
    semi-definite and of rank ≤ K. Under "none" and "gaussian" :math:`d_k = \sum_n z_{nk}`, and its
    rows and columns sum to one; under "l2" :math:`d_k = \lVert s_k \rVert`. Under "layer" W acts
    on features centred over the channels.

    Args:
        x: Features, (…, N, C).
        z: Responsibilities of the last iteration, (…, N, K).
        normalization: Of the iteration.

    Returns:
        W, (…, N, N).

    Source: derived. It is the adjacency of an anchor graph: Liu, He, Chang, "Large graph
    construction for scalable semi-supervised learning", ICML 2010.
    """
    if normalization == "layer":
        x = x - x.mean(dim=-1, keepdim=True)
    tiny = torch.finfo(z.dtype).tiny  # for bases that no pixel chooses
    if normalization in ("none", "gaussian"):
        scale = z.sum(dim=-2)
    else:
        means = update_bases(x, z, normalization=normalization)
        scale = (z.mT @ x).norm(dim=-1) / means.norm(dim=-1).clamp_min(tiny)
    return (z / scale.clamp_min(tiny).unsqueeze(-2)) @ z.mT


def double_attention(
    features: Float[Tensor, "*b n c"],
    gather: Float[Tensor, "*b n k"],
    distribute: Float[Tensor, "*b n k"],
) -> Float[Tensor, "*b n c"]:
    r"""The A² block, :math:`Y = [\phi(X)\,\mathrm{softmax}(\theta(X))^\top]\,
    \mathrm{softmax}(\rho(X))`, one pixel a row.

    Args:
        features: φ(X), (…, N, C).
        gather: θ(X), (…, N, K): logits of a softmax over the *pixels*.
        distribute: ρ(X), (…, N, K): logits of a softmax over the *bases*.

    Returns:
        Y, (…, N, C).

    Source: Chen et al., "A²-Nets: Double Attention Networks", NeurIPS 2018; the paper's Eq. 16.
    """
    bases = torch.softmax(gather, dim=-2).mT @ features
    return torch.softmax(distribute, dim=-1) @ bases


def slot_attention(
    x: Float[Tensor, "*b n c"],
    bases: Float[Tensor, "*d k c"],
    num_iterations: int = 3,
    *,
    concentration: float = 1.0,
) -> EMResult:
    r"""Slot attention without its learnt parts: queries, keys, values, GRU and MLP are identities.

    Slots are layer-normalised before they are compared; the softmax runs over the slots and the
    update is the weighted mean, as in EMA. :math:`\lambda = 1/\sqrt C` in the original.

    Args:
        x: Features, (…, N, C).
        bases: The slots at the start, (…, K, C).
        num_iterations: T ≥ 1.
        concentration: λ.

    Returns:
        z from the last comparison, the slots, and no objective.

    Raises:
        InputError: T < 1.

    Source: Locatello et al., "Object-Centric Learning with Slot Attention", NeurIPS 2020,
    Algorithm 1.
    """
    require(num_iterations >= 1, "num_iterations", num_iterations, "at least 1")
    for _ in range(num_iterations):
        keys = F.layer_norm(bases, bases.shape[-1:])
        z = responsibilities(x, keys, concentration=concentration)
        bases = (z.mT @ x) / z.sum(dim=-2).unsqueeze(-1)
    return EMResult(z, bases, None)


def factorize(
    x: Float[Tensor, "*b n c"], bases: Float[Tensor, "*d k c"], num_iterations: int = 6
) -> EMResult:
    r"""Non-negative matrix factorisation X ≈ Zμ by multiplicative updates, Hamburger's "ham".

    .. math:: Z \leftarrow Z \odot \frac{X \mu^\top}{Z \mu \mu^\top},\qquad
        \mu \leftarrow \mu \odot \frac{Z^\top X}{Z^\top Z \mu}

    Z starts as softmax(X μᵀ), the E step of EMA with λ = 1. The rows of Z do not sum to one.

    Args:
        x: Non-negative features (after a ReLU), (…, N, C).
        bases: Positive bases μ^(0), (…, K, C).
        num_iterations: T ≥ 1.

    Returns:
        Z, μ and -½‖X - Zμ‖² after 0, …, T iterations, which never falls.

    Raises:
        InputError: x or bases hold negative values.

    Source: Lee and Seung, "Algorithms for non-negative matrix factorization", NeurIPS 2000;
    Geng et al., "Is attention better than matrix decomposition?", ICLR 2021.
    """
    if (x < 0).any() or (bases < 0).any():
        raise InputError("x and bases must be ≥ 0 to be factorised; pass them through a ReLU")
    tiny = torch.finfo(x.dtype).tiny
    z = responsibilities(x, bases)
    objective = [_fit_of(x, z, bases)]
    for _ in range(num_iterations):
        z = z * (x @ bases.mT) / (z @ (bases @ bases.mT)).clamp_min(tiny)
        bases = bases * (z.mT @ x) / (z.mT @ z @ bases).clamp_min(tiny)
        objective.append(_fit_of(x, z, bases))
    return EMResult(z, bases, torch.stack(objective, dim=-1))


def _fit_of(x: Tensor, z: Tensor, bases: Tensor) -> Tensor:
    return -0.5 * (x - reconstruct(z, bases)).square().sum(dim=(-2, -1))
