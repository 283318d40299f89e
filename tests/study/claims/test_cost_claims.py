"""Every verdict on cost, on made-up counts and times."""

import pytest
from study.made_up import evidence, measured

from emastudy.study.claims import CLAIMS
from emastudy.study.claims.claim import _judged
from emastudy.study.recipes import scenes


def test_costs(cheap_costs):
    assert CLAIMS["C7"].judgements([])[0].verdict == "supported"
    cheap_costs.loc["PSANet", "kept_mib"] = 3.9
    _judged.cache_clear()
    (found,) = CLAIMS["C7"].judgements([])
    assert found.verdict == "contradicted"
    assert found.decisive.what.startswith("PSANet")


@pytest.mark.parametrize(
    ("power", "unit", "verdict"),
    [(1.0, 0.05, "supported"), (1.0, 0.2, "contradicted"), (2.0, 0.05, "contradicted")],
)
def test_overhead(power, unit, verdict):
    pixels = [1089, 2401, 4225, 9409]
    noise = [1.0, 1.01, 0.99, 1.0]
    row = {
        "pixels": pixels,
        "seconds": [1e-6 * n**power * e for n, e in zip(pixels, noise, strict=True)],
        "unit_seconds": unit,
        "network_seconds": 1.0,
    }
    timed = evidence(time=measured([(scenes("ema"), row)]))
    (found,) = CLAIMS["C8"].judgements([evidence(), timed])
    assert found.parts[0].verdict == "supported"
    assert found.verdict == verdict
