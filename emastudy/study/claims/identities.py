"""Claims that are identities: computed at once, on random numbers in double precision."""

from collections.abc import Iterable

import torch

from emastudy import em
from emastudy.em import relatives
from emastudy.study.claims.claim import claim
from emastudy.study.claims.verdict import Judgement, Part, counted


@claim(
    "C2",
    section="3.3, 4",
    statement="Non-local is re-estimation of X with μ = X, no E and no M step",
    measure="identity",
    rule="max difference ≤ 1e-6 relative",
    page="14_relatives",
    scope="none",
)
def non_local() -> Iterable[Judgement]:
    """On random features."""
    x = _random(4, 200, 16)
    again = em.reconstruct(em.responsibilities(x, x), x)
    yield Judgement((_identity("re-estimation with μ = X", again, relatives.non_local(x)),))


@claim(
    "C3",
    section="5.4",
    statement="the A² block is one EM iteration",
    measure="identity",
    rule="≤ 1e-6 relative",
    page="14_relatives",
    scope="none",
)
def double_attention() -> Iterable[Judgement]:
    """With the θ that it takes and with the θ that the block can have.

    The block's θ is a linear map of X; the second variant gives it the one nearest (least squares)
    to the θ that makes the identity exact.
    """
    x, start = _random(200, 16), em.normalize(_random(8, 16, seed=1), "l2")
    one = em.expectation_maximization(x, start, 1, normalization="none", trace=False)
    ema = em.reconstruct(one.responsibilities, one.bases)
    rho = x @ start.mT
    exact = torch.log_softmax(rho, dim=-1)
    affine = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    linear = affine @ torch.linalg.lstsq(affine, exact).solution
    for theta, variant in ((exact, "θ = log softmax(ρ)"), (linear, "θ linear, as in the block")):
        block = relatives.double_attention(x, theta, rho)
        yield Judgement((_identity("the block's output", block, ema),), variant)


@claim(
    "C4",
    section="5.3",
    statement="L2Norm keeps the direction of each basis, BN and LN change it",
    measure="angle before/after",
    rule="0 for L2, > 0 for the others",
    page="13_what_ema_optimises",
    scope="none",
)
def directions() -> Iterable[Judgement]:
    """On random bases: batch norm over the bases, as over the samples of a batch."""
    bases = _random(64, 32) + 0.5
    batch = torch.nn.functional.batch_norm(bases, None, None, training=True)
    kept = float(_angles(bases, em.normalize(bases, "l2")).max())
    parts = [_angle("largest", "L2Norm", kept, kept < 1e-6)]
    for name, after in (("LN", em.normalize(bases, "layer")), ("BN", batch)):
        turned = float(_angles(bases, after).min())
        parts.append(_angle("smallest", name, turned, turned > 1e-6))
    yield Judgement(tuple(parts))


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _identity(what: str, ours: torch.Tensor, theirs: torch.Tensor) -> Part:
    gap = float((ours - theirs).abs().max() / theirs.abs().max())
    return counted(what, gap <= 1e-6, gap, "relative difference")


def _angles(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    # Half the angle from chord and sum: exact near zero, where the arc cosine is not.
    u, v = em.normalize(before, "l2"), em.normalize(after, "l2")
    return torch.rad2deg(2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1)))


def _angle(which: str, norm: str, angle: float, condition: bool) -> Part:
    what = f"{which} angle between a basis before and after {norm}"
    return counted(what, condition, angle, "degrees")
