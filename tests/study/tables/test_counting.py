"""Table 1's costs beside the published: ratios, the closest definition, growth, folding."""

import re

import pandas as pd
import pytest

from emastudy.study.report import remarks
from emastudy.study.tables import counting

COSTS = pd.DataFrame(
    {
        "gmacs": [100.0, 10.0, 30.0],
        "convolution_gmacs": [100.0, 9.0, 20.0],
        "mparams": [40.0, 5.0, 8.0],
        "kept_mib": [90.0, 20.0, 10.0],
        "peak_mib": [9.0, 2.0, 1.0],
        "published_gmacs": [100.0, 10.0, 20.0],
        "published_mparams": [40.0, 5.0, 8.0],
        "published_memory_mb": [180.0, 20.1, 30.0],
    },
    index=["ResNet-101", "EMANet (512)", "PSANet"],
)


def test_a_row_is_reproduced_if_both_its_numbers_are():
    ratios = counting.beside_published(COSTS)
    assert ratios.loc["PSANet", "gmacs_ratio"] == 1.5
    lines = remarks.reproduced(ratios).splitlines()
    assert lines[1] == "EMANet (512): reproduced (multiply-adds 0.0% off, parameters 0.0% off)."
    assert lines[2].startswith("PSANet: not reproduced as it stands (multiply-adds 50.0% off")


def test_the_closest_definition_is_by_the_worse_of_both_numbers():
    tried = pd.DataFrame(
        {
            "gmacs_ratio": [1.5, 1.02],
            "convolution_gmacs_ratio": [1.0, 0.5],
            "mparams_ratio": [1.0, 1.3],
        },
        index=["PSANet, all", "PSANet, other"],
    )
    (row,) = counting.closest_definitions(tried).to_dict("records")
    assert row == {"definition": "PSANet, all", "counted": "convolutions only", "miss": 0.0}
    assert "PSANet, all, convolutions only: reproduces the row" in remarks.closest_definitions(
        tried
    )


def test_memory_is_compared_row_by_row_and_by_its_order():
    memory = counting.memory(COSTS)
    assert "within 1 % in: EMANet (512). The other" in remarks.memory_matches(memory)
    assert remarks.memory_order(memory).splitlines() == [
        "Least to most memory kept, ours: PSANet < EMANet (512)",
        "The published order: EMANet (512) < PSANet",
    ]


def test_growth_is_the_power_that_was_put_in():
    sides = [17, 33, 65, 129]
    measured = pd.DataFrame(
        {
            "module": ["EMA"] * 4 + ["non-local"] * 4,
            "side": sides * 2,
            "N": [side**2 for side in sides] * 2,
            "seconds": [side**2 / 1e6 for side in sides] + [side**4 / 1e8 for side in sides],
            "peak_bytes": 2.0**20,
            "stored_bytes": 2.0**21,
        }
    )
    times, memory = counting.growth(measured, least_side=33)
    assert times["side"].min() == 33
    assert set(memory["module"]) == {"EMA", "non-local, fused", "non-local, stored"}
    assert set(memory.loc[memory["module"] == "non-local, stored", "MiB"]) == {2.0}
    assert remarks.growth(times).splitlines()[1].startswith("non-local: time grows as N^2.00")
    wide = counting.times_beside_another(measured)
    assert wide.loc[129, "non-local / EMA"] == pytest.approx(166.4)
    assert wide.loc[17, "EMA, ms"] == pytest.approx(0.29)


def test_folding_is_counted_as_fewer_multiply_adds_from_2tk_pixels_on():
    table = counting.folding([4, 33], channels=8, repeats=1)
    written, folded = table["10⁹ multiply-adds, as written"], table["10⁹ multiply-adds, folded"]
    assert folded[33] < written[33]
    assert folded[4] == written[4], "below, the unit does not fold"


def test_folding_the_head_saves_what_the_unit_saves():
    text = remarks.folded_head(513)
    assert text.startswith("EMANet (512)'s head at 513×513: ")
    written, folded = map(float, re.findall(r"(\d+\.\d+)·10⁹", text))
    assert folded < written
