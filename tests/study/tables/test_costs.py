"""Table 1's costs are the published ones where those can be reproduced; memory is linear."""

import pytest

from benchmarks import results
from emastudy.study import published, tables
from emastudy.study.statistics import fit_exponent
from emastudy.study.tables.costs import measure_contexts, table1, table1_heads


@pytest.fixture(scope="module")
def costs():
    return table1()


def test_rows_are_the_published_ones(costs):
    assert list(costs.index) == list(published.table1().index) == ["ResNet-101", *table1_heads()]


def test_emanet_is_counted_as_released():
    """The other regimes keep more for the backward pass."""
    assert table1_heads()["EMANet (512)"] == ("ema", {"gradient": "detached"})
    assert table1_heads()["EMANet (256)"] == ("ema", {"gradient": "detached", "channels": 256})


@pytest.mark.parametrize("method", ["ResNet-101", "DeepLabV3", "EMANet (256)", "EMANet (512)"])
def test_published_costs_are_reproduced(costs, method):
    row = costs.loc[method]
    assert row["gmacs"] == pytest.approx(row["published_gmacs"], rel=0.006)
    assert row["mparams"] == pytest.approx(row["published_mparams"], rel=0.006)


def test_psanet_is_reproduced_by_its_convolutions_alone(costs):
    row = costs.loc["PSANet"]
    assert row["convolution_gmacs"] == pytest.approx(row["published_gmacs"], rel=0.006)
    assert row["mparams"] == pytest.approx(row["published_mparams"], rel=0.006)


def test_deeplabv3plus_is_reproduced_without_image_pooling_and_with_32_detail_channels():
    options = {"image_pooling": False, "detail_channels": 32}
    row = table1({"DeepLabV3+": ("deeplabv3plus", options)}).loc["DeepLabV3+"]
    assert row["gmacs"] == pytest.approx(row["published_gmacs"], rel=0.006)
    assert row["mparams"] == pytest.approx(row["published_mparams"], rel=0.006)


def test_deeplabv3s_memory_is_what_training_keeps(costs):
    row = costs.loc["DeepLabV3"]
    assert row["kept_mib"] == pytest.approx(row["published_memory_mb"], rel=0.006)


def test_measured_memory_is_linear_in_pixels_unless_the_matrix_is_stored():
    frame = measure_contexts([33, 65], channels=16, bases=(8,), repeats=1)
    assert (frame["seconds"] > 0).all()
    for module, part in frame.groupby("module"):
        assert fit_exponent(part["N"], part["peak_bytes"]).exponent < 1.1, module
    stored = frame[frame["module"] == "non-local"]
    assert fit_exponent(stored["N"], stored["stored_bytes"]).exponent > 1.8


def test_what_was_benchmarked_is_read_with_its_machine(tmp_path, monkeypatch):
    (tmp_path / "experiments" / "records").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    rows, machine = tables.costs.benchmarked("units")
    assert (len(rows), machine) == (0, "")
    timed = [
        {"batch": batch, "way": way, "seconds": batch * seconds}
        for batch in (1, 4)
        for way, seconds in (("ours", 0.05), ("plain", 0.0804))
    ]
    results.keep("units", timed, folder=tmp_path / "benchmarks" / "results")
    rows, machine = tables.costs.benchmarked("units")
    assert "threads: " in machine
    assert tables.costs.ways(rows, ["batch"]).loc[4].to_dict() == {"ours": 200.0, "plain": 321.6}
