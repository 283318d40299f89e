"""What the chapters of theory check and count, beyond what ``em`` computes."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from emastudy import em
from emastudy.em.gradients import jacobian, spectral_radius
from emastudy.em.iteration import Normalization
from emastudy.study.tables.ablations import NORMALIZATIONS


def retrieve(
    x: Float[Tensor, "*b n c"],
    bases: Float[Tensor, "*d k c"],
    older: Float[Tensor, "*d k c"] | None = None,
    **options: Any,
) -> Float[Tensor, "*b n c"]:
    """The re-estimate X̃ from bases that are held; with the pixels as bases, non-local attention.

    With ``normalization="gaussian"`` and data as bases it is a step of mean shift.

    Args:
        older: Bases that Z is made from, one M step older in EMA; None = the same.
    """
    made_from = bases if older is None else older
    return em.reconstruct(em.responsibilities(x, made_from, **options), bases)


def fall_shares(
    x: Float[Tensor, "b n c"],
    start: Float[Tensor, "*b k c"],
    concentration: float,
    iterations: int = 12,
) -> pd.DataFrame:
    """Share of images in which F falls, see ``em.falls``."""
    rows = {}
    for name in NORMALIZATIONS:
        course = em.expectation_maximization(
            x, start, iterations, concentration=concentration, normalization=name
        ).objective
        assert course is not None
        fall = em.falls(course)
        rows[name] = {
            "first step": fall[:, 0].double().mean().item(),
            "any later step": fall[:, 1:].any(dim=1).double().mean().item(),
        }
    return pd.DataFrame(rows).T


def jacobian_norm(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """The largest factor by which a map lengthens a small change of all of x."""
    matrix = torch.autograd.functional.jacobian(function, x)  # type: ignore[no-untyped-call]
    return float(torch.linalg.matrix_norm(matrix.reshape(x.numel(), x.numel()), 2))


def likely_concentration(x: Float[Tensor, "n c"], bases: Float[Tensor, "k c"]) -> float:
    """The λ of one image that EM of Gaussians with unit means finds, λ learnt, in 30 iterations."""
    concentration = 1.0
    for _ in range(30):
        z, bases, _ = em.expectation_maximization(x, bases, 1, concentration=concentration)
        concentration = x.numel() / (z * torch.cdist(x, bases).square()).sum().item()
    return concentration


def stable_and_apart(
    x: Float[Tensor, "n c"], starts: Float[Tensor, "b k c"], concentration: float
) -> int:
    """From how many starts EM ends at rest and stable, with bases in more than one place."""
    every = x.expand(len(starts), -1, -1)
    ends = _ends(every, starts, concentration, 1000)
    still = (_ends(every, ends, concentration) - ends).flatten(1).norm(dim=1) < 1e-9
    different = (ends @ ends.mT).flatten(1).amin(dim=1) < 1 - 1e-6
    stable = spectral_radius(jacobian(every, ends, concentration=concentration)) < 1
    return int((still & different & stable).sum())


def distance_factor(
    x: Float[Tensor, "n c"],
    bases: Float[Tensor, "k c"],
    concentration: float,
    normalization: Normalization = "l2",
) -> float:
    """By what an iteration multiplies the largest distance between two bases."""
    ends = _ends(x, bases, concentration, normalization=normalization)
    return (torch.cdist(ends, ends).max() / torch.cdist(bases, bases).max()).item()


def shared_start(
    x: Float[Tensor, "b n c"],
    start: Float[Tensor, "k c"],
    concentration: float,
    updates: int,
    *,
    momentum: float = 0.0,
    tolerance: float = 0.0,
    images: int = 0,
) -> Float[Tensor, "t k c"]:
    """μ^(0), which all images share, after 0, 1, … moving averages over what EM makes of it, T = 3.

    Args:
        updates: The largest number of moving averages.
        momentum: α, the weight of the old value.
        tolerance: An update that moves no coordinate this far is the last.
        images: How many images, drawn at random, an update sees; 0 = all, each once.
    """
    course, generator = [start], torch.Generator().manual_seed(0)
    for _ in range(updates):
        seen = x[torch.randint(len(x), (images,), generator=generator)] if images else x
        ends = _ends(seen, course[-1], concentration, 3).mean(dim=0)
        course.append(momentum * course[-1] + (1 - momentum) * ends)
        if (course[-1] - course[-2]).abs().max() < tolerance:
            break
    return torch.stack(course)


def _ends(
    x: Tensor,
    bases: Tensor,
    concentration: float,
    iterations: int = 1,
    normalization: Normalization = "l2",
) -> Tensor:
    return em.expectation_maximization(
        x, bases, iterations, concentration=concentration, normalization=normalization, trace=False
    ).bases
