"""Problems of EM for tests: random features and bases, and what an iteration makes of them."""

import hypothesis.strategies as st
import torch

from emastudy import em

EXACT = ("l2", "gaussian")
ALL = ("l2", "layer", "none", "gaussian")


@st.composite
def problems(draw, *, max_pixels=30):
    """x, μ^(0) on the unit sphere, λ and T of a random shape and scale, in float64."""
    channels, num_bases = draw(st.integers(2, 6)), draw(st.integers(1, 5))
    pixels = draw(st.integers(num_bases, max_pixels))
    batch = draw(st.sampled_from([(), (2,)]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.1, 1.0, 5.0]))
    x = torch.randn(*batch, pixels, channels, generator=generator, dtype=torch.float64) * scale
    bases = torch.randn(*batch, num_bases, channels, generator=generator, dtype=torch.float64)
    return (
        x,
        em.normalize(bases, "l2"),
        draw(st.sampled_from([0.1, 1.0, 4.0])),
        draw(st.integers(1, 4)),
    )


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def doubles(rows):
    return torch.tensor(rows, dtype=torch.float64)


def run(x, bases, concentration, iterations, normalization):
    return em.expectation_maximization(
        x, bases, iterations, concentration=concentration, normalization=normalization
    )


def falls(objective):
    """Largest fall of a trace, relative to its size; ≤ 0 where it never falls."""
    return float((-objective.diff(dim=-1) / (1 + objective[..., 1:].abs())).max())
