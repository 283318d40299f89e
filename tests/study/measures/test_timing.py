"""What the claim of little overhead reads."""

import pytest
from study.made_up import evidence

from emastudy.study.claims import CLAIMS
from emastudy.study.measures import MEASURES, Measurement, load_measurements


def test_time_is_what_the_claim_of_little_overhead_reads(subject, tmp_path):
    (row,) = MEASURES["time"](subject, sides=[8, 12, 16], size=32, repeats=1)
    assert row["pixels"] == [64, 144, 256]
    assert all(value > 0 for value in (*row["seconds"], row["unit_seconds"]))
    Measurement(subject.config, "time", {}, [row], {}).write(tmp_path)
    table = load_measurements(tmp_path, "time").set_index("id")
    (found,) = CLAIMS["C8"].judgements([evidence(time=table)])
    share = found.parts[2].effect
    assert share == pytest.approx(row["unit_seconds"] / row["network_seconds"])
    assert found.parts[1].verdict != "not run"
