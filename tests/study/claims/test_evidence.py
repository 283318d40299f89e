"""What counts as evidence: runs of the very recipe, and measurements that exist."""

import dataclasses

import pytest
from study.made_up import ema, evidence, find, measured, plain, record, scored

from emastudy.study.claims import DATASETS, Evidence, load_evidence
from emastudy.study.recipes import RECIPES, scenes
from emastudy.study.runs import to_frame


def test_only_runs_of_the_very_recipe_are_evidence():
    right = {ema(): 2.0, plain("non_local"): 0.0, plain("a2"): 0.0}
    assert find("C17", evidence(scored(right))).verdict == "supported"
    for changed in ({"learning_rate": 0.01}, {"iterations": 299}, {"head_options": {}}):
        frame = scored(right)
        frame = to_frame(
            dataclasses.replace(r, config=dataclasses.replace(r.config, **changed))
            if r.config.head == "ema"
            else r
            for r in frame["record"]
        )
        found = find("C17", evidence(frame))
        assert found.verdict == "not run", changed
        assert "ema gradient=detached: 0 of 5 seeds" in found.missing


def test_evidence_is_read_from_a_profile(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "half.yaml").write_text("profile: half\nscale: 0.5\n")
    config = scenes("fcn", scale=0.5)
    record(config, 40.0).write(tmp_path / "records" / "half")
    found = Evidence.load(tmp_path, "half")
    assert found.miou("fcn").to_dict() == {0: 40.0}
    assert found.needed == 5
    assert Evidence.load(tmp_path, "animals").needed == 3
    with pytest.raises(ValueError, match="no profile 'hlaf'; there are animals, "):
        Evidence.load(tmp_path, "hlaf")


def test_evidence_is_read_once_until_a_record_is_added(tmp_path):
    folder = tmp_path / "records" / "scenes"
    record(scenes("fcn"), 40.0).write(folder)
    (first,) = load_evidence(tmp_path, ["scenes"])
    assert load_evidence(tmp_path, ["scenes"])[0] is first
    record(scenes("fcn", seed=1), 41.0).write(folder)
    assert load_evidence(tmp_path, ["scenes"])[0].miou("fcn").to_dict() == {0: 40.0, 1: 41.0}


def test_data_sets_are_recipes_with_the_seeds_that_a_verdict_needs():
    assert set(DATASETS) <= set(RECIPES)
    assert [data.seeds for data in DATASETS.values()] == [5, 3, 3, 5]


def test_a_profile_of_an_unknown_recipe_is_named(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "odd.yaml").write_text("dataset: scnes\n")
    with pytest.raises(ValueError, match="no recipe 'scnes'; there are scenes, "):
        Evidence.load(tmp_path, "odd")


def test_an_unknown_measure_is_an_error_and_no_empty_table():
    assert evidence().measured("rank").empty
    with pytest.raises(ValueError, match="no measure 'ranks'; there are .*rank"):
        evidence().measured("ranks")


def test_under_a_regime_the_ema_networks_have_its_gradient_and_the_others_none():
    one = evidence(scored({ema(): 1.0, ema(gradient="unrolled"): 2.0, plain("fcn"): 0.0}))
    unrolled = one.under("unrolled")
    assert unrolled.miou().to_dict() == one.miou(gradient="unrolled").to_dict()
    assert unrolled.miou().to_dict() != one.miou().to_dict()
    assert unrolled.miou("fcn").to_dict() == one.miou("fcn").to_dict()
    assert unrolled.miou(gradient="detached").to_dict() == one.miou().to_dict()
    assert unrolled.miou(num_bases=4).name == "ema gradient=unrolled num_bases=4"


def test_of_several_measurements_of_a_run_the_one_with_most_iterations_counts():
    config = scenes("ema")
    rows = [(config, {"at.iterations": count, "falls": count}) for count in (12, 4)]
    assert evidence(objective=measured(rows)).measured("objective")["falls"].tolist() == [12]
