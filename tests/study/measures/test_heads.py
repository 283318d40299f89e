"""What can be asked of a unit of several heads, and what cannot."""

import dataclasses

import pytest
import torch

from emastudy.engine import train
from emastudy.study.measures import MEASURES, Subject


@pytest.fixture
def heads(unit_run, runtime):
    options = {**unit_run.head_options, "heads": 2, "value_conv": True}
    config = dataclasses.replace(unit_run, head_options=options)
    network = train(config, runtime).network.eval()
    return Subject(network, config, runtime)


def test_each_head_is_counted_by_itself(heads):
    (row,) = MEASURES["distinct"](heads, iterations=3, images=2)
    assert len(row["distinct"]) == 4
    assert all(1 <= count <= 4 for count in row["distinct"])
    assert len(row["critical"]) == 2 * 2
    unit = heads.unit
    with torch.no_grad():
        unit.bases[0] = unit.bases[0, :1]  # one basis in one head, four in the other
    (row,) = MEASURES["distinct"](heads, iterations=1, images=2)
    assert row["distinct"][0] == (1 + 4) / 2


@pytest.mark.parametrize(
    ("name", "scale"),
    [(name, scale) for name in ("distinct", "objective") for scale in ("learned", "critical")]
    + [("start", "learned")],  # which refuses the other
)
def test_a_temperature_that_is_learnt_or_the_images_own_can_be_asked(
    unit_run, runtime, name, scale
):
    options = {**unit_run.head_options, "concentration_scale": scale, "gradient": "unrolled"}
    config = dataclasses.replace(unit_run, head_options=options)
    network = train(config, runtime).network.eval()
    assert MEASURES[name](Subject(network, config, runtime), images=2)


def test_objectives_of_heads_add_up(heads):
    (row,) = MEASURES["objective"](heads, iterations=3, images=2)
    assert row["falls"] == 0
    expected = []
    for x, start, _ in heads.inputs(2):
        x, start = x.double(), start.double()
        both = [heads.em(x[h], start[h], 3, trace=True).objective for h in range(2)]
        expected.append(sum(both) / x.shape[-2])
    assert row["objective"] == pytest.approx(torch.stack(expected).mean(dim=0).tolist())


@pytest.mark.parametrize("name", ["concepts", "maps", "rank"])
def test_what_numbers_the_bases_of_pixels_wants_one_head(heads, name):
    with pytest.raises(ValueError, match="has heads=2, and a pixel a basis in each"):
        MEASURES[name](heads)


def test_rank_wants_a_re_estimate_of_x_itself(heads):
    options = {**heads.config.head_options, "heads": 1}
    config = dataclasses.replace(heads.config, head_options=options)
    network = train(config, heads.runtime).network
    with pytest.raises(ValueError, match="has value_conv=True and re-estimates values"):
        MEASURES["rank"](Subject(network.eval(), config, heads.runtime))
