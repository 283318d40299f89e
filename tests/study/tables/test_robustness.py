"""What corruption costs, by hand."""

import pandas as pd
import pytest

from emastudy.study.measures import MEASURES
from emastudy.study.tables import robustness


def scores():
    rows = [
        (method, seed, kind, severity, base + 10 * (seed + 1) - loss * severity)
        for method, base, loss in (("FCN", 50, 10), ("EMA", 60, 5))
        for seed in (0, 1)
        for kind, severity in (("", 0), ("noise", 1), ("blur", 3))
    ]
    columns = ["method", "seed", "at.corruption", "at.severity", "miou"]
    return pd.DataFrame(rows, columns=columns).astype({"miou": float})


def test_falls_are_from_clean_to_the_mean_over_kinds_and_severities():
    falls = robustness.falls(scores()).set_index(["method", "seed"])
    assert falls.loc[("FCN", 0), "clean"] == 60
    assert falls.loc[("FCN", 0), "corrupted"] == 40
    assert falls.loc[("FCN", 0), "fall"] == 20
    assert falls.loc[("FCN", 0), "remains, %"] == pytest.approx(100 * 2 / 3)
    assert robustness.mean_falls(falls.reset_index()).loc["EMA", "fall"] == 10
    less = robustness.less_than_fcn(falls.reset_index())
    assert less.loc[("fall", "EMA"), "difference"] == -10
    assert set(less.index.get_level_values(0)) == {"fall", "remains, %"}


def test_kinds_are_averaged_and_severity_is_named():
    table = scores().assign(**{"head.gradient": "detached", "at.num_iterations": 2})
    table = table[(table["method"] == "EMA") & (table["at.severity"] != 1)]
    found = robustness.by_iterations(table).set_index(["seed", "images"])["miou"].to_dict()
    assert found == {
        (0, "clean"): 70.0,
        (0, "corrupted, severity 3"): 55.0,
        (1, "clean"): 80.0,
        (1, "corrupted, severity 3"): 65.0,
    }


def test_options_are_the_measures_own():
    import inspect

    known = set(inspect.signature(MEASURES["scores"]).parameters)
    options = robustness.options(severities=range(1, 3), images=0, iterations=[1])
    assert set(options) <= known
    assert options["corruptions"] == ["", "noise", "blur", "contrast", "jpeg"]
    assert "iterations" not in robustness.options(severities=[1], images=2)
