"""The claims that are identities hold, or not, by mathematics alone."""

from emastudy.study.claims import CLAIMS


def test_non_local_is_re_estimation_of_x():
    (found,) = CLAIMS["C2"].judgements([])
    assert found.verdict == "supported"


def test_the_a2_block_is_an_iteration_only_with_a_theta_that_it_cannot_have():
    verdicts = {found.variant: found.verdict for found in CLAIMS["C3"].judgements([])}
    assert verdicts == {
        "θ = log softmax(ρ)": "supported",
        "θ linear, as in the block": "contradicted",
    }


def test_l2_alone_keeps_directions():
    (found,) = CLAIMS["C4"].judgements([])
    assert found.verdict == "supported"
    assert all(part.effect > 1 for part in found.parts[1:])  # degrees, not rounding
