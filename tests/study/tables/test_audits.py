"""Audits of several profiles as one table."""

import pytest
from study.made_up import record

from emastudy.study.recipes import scenes
from emastudy.study.tables import audits


@pytest.fixture
def folders(tmp_path):
    loss = {"loss": [(10, 1.0)]}
    folders = {name: tmp_path / name for name in ("scenes", "empty")}
    configs = [scenes("fcn", seed=seed) for seed in (0, 1)] + [scenes(gradient="unrolled")]
    for score, config in zip((50, 54, 60), configs, strict=True):
        record(config, score, loss).write(folders["scenes"])
    for score, config in zip((50.1, 61), (configs[0], configs[2]), strict=True):
        record(config, score, loss).write(folders["scenes"] / "audit")
    return folders


def test_kinds_are_heads_with_the_gradient_regime(folders):
    found = audits.load(folders).set_index("kind")
    assert set(found.index) == {"FCN", "EMA, unrolled"}
    assert set(found["profile"]) == {"scenes"}
    assert found["holds"].to_dict() == {"FCN": True, "EMA, unrolled": False}


def test_a_profile_is_summed_up_beside_the_spread_over_its_seeds(folders):
    found = audits.summary(folders, audits.load(folders))
    row = found.loc["scenes"]
    assert (row["records"], row["trained anew"], row["hold"]) == (3, 2, 1)
    assert row["largest difference"] == pytest.approx(1)
    assert row["standard deviation over seeds"] == pytest.approx(8**0.5)
    assert found.loc["empty", "records"] == 0


def test_nothing_audited_is_an_empty_table(tmp_path):
    found = audits.load({"scenes": tmp_path})
    assert found.empty
    assert audits.summary({"scenes": tmp_path}, found).loc["scenes", "trained anew"] == 0
    assert audits.machines(found).empty


def test_machines_are_counted(folders):
    one = audits.load(folders)
    assert audits.machines(one)["trained anew"].tolist() == [2]
    moved = one.assign(processor=one["kind"].map({"FCN": "a", "EMA, unrolled": "a → b"}))
    assert audits.machines(moved)["hold"].droplevel([0, 2]).to_dict() == {"a": 1, "a → b": 0}
