"""What methods are called, and in which order they stand."""

import pytest
from study.made_up import GAPS, compared, record

from emastudy.engine import RunConfig
from emastudy.study.recipes import (
    CONTROLS,
    METHODS,
    REGIMES,
    STARTS,
    SUCCESSORS,
    animals,
    label_runs,
    scenes,
    width,
)
from emastudy.study.runs import to_frame
from emastudy.study.tables import table1_runs


def labels(*configs):
    return list(label_runs(to_frame(record(config, 50.0) for config in configs)))


def test_labels_tell_methods_apart():
    tables = (METHODS, SUCCESSORS, CONTROLS, STARTS)
    names = {method.label for table in tables for method in table.values()}
    assert len(names) == sum(map(len, tables))


def test_methods_stand_in_the_order_of_the_table():
    runs = compared()
    order = [method.label for method in METHODS.values()]
    assert list(runs["method"].unique()) == [label for label in order if label in GAPS]
    assert list(runs["seed"])[:3] == [0, 1, 2]


def test_a_run_is_called_by_its_head_and_regime():
    assert labels(*(scenes(gradient=regime) for regime in REGIMES)) == [
        f"EMA, {words}" for words in REGIMES.values()
    ]
    assert labels(animals("fcn"), scenes("psanet")) == ["FCN", "PSANet"]
    assert labels(scenes("hamburger"), scenes("slots")) == ["Hamburger", "Slot attention"]
    assert labels(scenes("fcn")) == ["FCN"]  # a table without a column of gradients


def test_a_head_that_is_no_method_is_called_by_its_name():
    options = {"gradient": "unrolled"}
    released = RunConfig(head="emanet_released", backbone="resnet18", head_options=options)
    assert labels(released, scenes("fcn")) == ["emanet_released, unrolled", "FCN"]


@pytest.mark.parametrize(("recipe", "channels"), [(scenes, 64), (animals, 256)])
def test_half_is_half_of_the_recipes_width(recipe, channels):
    methods = table1_runs(recipe, seeds=1)
    assert width(methods["EMA, unrolled"][0]) == channels
    assert width(methods["EMA (half), unrolled"][0]) == channels // 2


def test_a_unit_of_ones_own_is_called_by_its_class(my_module):
    assert labels(scenes("my_module:EMAU"), scenes("my_module:Mean")) == ["EMAU, detached", "Mean"]
