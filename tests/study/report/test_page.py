"""A page takes a notebook's parameters, and its calls are those of the package."""

from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
from study.tiny import make_record

from emastudy.errors import InputError
from emastudy.study import SweepError
from emastudy.study.claims.evidence import DATASETS
from emastudy.study.recipes import scenes
from emastudy.study.report import Page

PARAMETERS = {"profile": "mine", "seeds": 2, "scale": 0.1, "gradients": "unrolled, detached"}


@pytest.fixture
def page(tmp_path, monkeypatch):
    (tmp_path / "experiments" / "records").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with plt.rc_context():
        yield Page.of({**PARAMETERS, "images": 64, "In": []}, executor="none")


def test_a_page_takes_its_own_of_the_parameters_and_sets_the_style(page, tmp_path):
    assert (page.profile, page.seeds, page.scale, page.executor) == ("mine", 2, 0.1, "none")
    assert page.regimes == ("unrolled", "detached")
    assert page.folder == tmp_path / "experiments" / "records" / "mine"
    assert page.runtime.runs_dir == str(tmp_path / "runs")
    assert plt.rcParams["axes.spines.top"] is False


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seeds", 0, "a whole number ≥ 1"),
        pytest.param("seeds", 1.5, "a whole number ≥ 1", marks=pytest.mark.unchecked),
        pytest.param("seeds", "two", "a whole number ≥ 1", marks=pytest.mark.unchecked),
        ("scale", 0.0, "a finite number > 0"),
        ("scale", float("inf"), "a finite number > 0"),
        ("images", "all", "a whole number"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named_before_anything_runs(name, value, expected):
    with pytest.raises(InputError, match=f"^{name} is {value!r}; expected {expected}$"):
        Page.of({"__annotations__": {"images": int}, "images": 3, name: value})


def test_an_unknown_regime_is_named_before_anything_runs():
    with pytest.raises(InputError, match="'onestep' is no regime; expected some of detached,one"):
        Page(gradients="detached,onestep")


def test_runs_too_short_are_named_as_such_and_do_not_answer(monkeypatch, tmp_path):
    quick = Page(profile="quick", seeds=2, scale=0.15)
    assert "`quick`: 2 seeds, 15 % of the iterations" in quick.how_made()
    assert "make book PROFILE=scenes" in quick.how_made()
    full = quick.at_full_length()
    assert (full.profile, full.seeds, full.scale, full.executor) == ("scenes", 5, 1.0, "none")
    assert full.regimes == ("detached", "one_step", "unrolled")
    for own in (Page(profile="scenes", seeds=5), Page(profile="mine")):
        assert own.at_full_length() is own
        assert own.how_made() == ""
    assert full.how_made() == ""
    for change in ({"dataset": "animals_frozen"}, {"backbone": "resnet18"}):
        other = replace(quick, **change)
        assert other.at_full_length() is other
    monkeypatch.setattr(Page, "folder", tmp_path)  # nothing is recorded
    assert quick.at_full_length() is quick


def test_a_grid_is_the_recipes_with_the_pages_seeds_and_length(page):
    configs = page.grid(num_iterations=(1, 3))
    assert configs == [
        scenes("ema", seed=seed, scale=0.1, num_iterations=count)
        for count in (1, 3)
        for seed in (0, 1)
    ]
    assert page.recipe("fcn", seed=5) == scenes("fcn", seed=5)


def test_what_is_recorded_is_shown_and_what_is_not_is_listed(page):
    first, second = page.grid()
    assert page.recorded([first, second]).empty
    assert page.recorded([first], "rank").empty
    with pytest.raises(SweepError, match="none of the 2 runs is recorded"):
        page.run([first, second])
    make_record(first, miou=40.0).write(page.folder)
    assert page.missing([first, second]) == [second]
    assert list(page.recorded([first, second])["miou"]) == [40.0]
    named = page.run_methods({"EMA": [first], "other": [second]})
    assert list(named["method"]) == ["EMA"]


def test_recorded_trains_nothing_whatever_the_page_would(page):
    training = Page.of(PARAMETERS, executor="local")
    assert training.recorded(training.grid()).empty
    assert not (page.folder.parents[2] / "runs").exists()


def test_photographs_are_the_committed_runs_with_the_pages_regimes(page):
    photographs = page.photographs()
    assert photographs.regimes == page.regimes
    assert photographs.executor == "none"
    assert photographs.folder.name == "animals_frozen"
    recorded = DATASETS["animals_frozen"].recorded
    assert [config.seed for config in photographs.grid("fcn")] == [*range(recorded)]
    explored = page.committed("scenes", profile="scenes_explored")
    assert (explored.folder.name, explored.dataset) == ("scenes_explored", "scenes")


def test_a_checkpoint_is_one_in_the_runs_own_folder(page):
    config = page.grid()[0]
    assert not page.has_checkpoint(config)
    (page.runtime.run_dir(config) / "checkpoint-3").mkdir(parents=True)
    assert page.has_checkpoint(config)


def test_a_module_that_is_called_like_a_parameter_is_none():
    from emastudy.em import gradients

    page = Page.of({**PARAMETERS, "gradients": gradients})
    assert page.regimes == Page().regimes


def test_of_methods_that_are_not_recorded_there_is_an_empty_table(page):
    methods = {"FCN": page.grid("fcn")}
    assert page.recorded_methods(methods).empty
    assert page.recorded_methods(methods, "scores", splits=["test"]).empty


def test_elsewhere_are_the_other_data_sets_of_the_ledger(page):
    others = page.elsewhere()
    assert [one.dataset for one in others.values()] == [d for d in DATASETS if d != "scenes"]
    assert {one.executor for one in others.values()} == {"none"}
