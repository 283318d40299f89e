"""What the figures draw is what the numbers say."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from emastudy.study.figures import charts


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_panels_are_those_of_the_values_that_have_rows_in_the_order_asked_for():
    frame = pd.DataFrame(
        {"gradient": ["unrolled", "detached", "unrolled"], "miou": [1.0, 2.0, 3.0]}
    )
    order = ["detached", "one_step", "unrolled"]
    figure, parts = charts.panels(frame, order, width=4.0)
    assert [value for _, value, _ in parts] == ["detached", "unrolled"]
    assert [list(rows["miou"]) for *_, rows in parts] == [[2.0], [1.0, 3.0]]
    assert [ax for ax, *_ in parts] == figure.axes
    assert figure.get_figwidth() == 8
    parts[0][0].set_ylim(0, 7)
    assert parts[1][0].get_ylim() == (0, 7)
    more = pd.concat([frame, frame.assign(gradient="one_step")])
    assert charts.panels(more, order, width=4.0)[0].get_figwidth() == 9


def test_a_title_says_where_methods_have_more_seeds_than_others():
    runs = pd.DataFrame({"method": ["A"] * 3 + ["B"], "seed": [0, 1, 2, 0], "miou": 1.0})
    assert charts.number_of_seeds(runs) == "1 to 3 seeds"
    assert charts.number_of_seeds(runs[:3]) == "3 seeds"
    assert charts.number_of_seeds(runs[["seed", "miou"]][3:]) == "1 seed"
    assert charts.number_of_seeds(runs[:0]) == "0 seeds"


def test_lines_keep_their_colours_in_a_panel_that_lacks_some_and_share_one_legend():
    frame = pd.DataFrame(
        [(name, t, t + seed) for name in ("a", "b", "c") for t in (1, 2) for seed in (0, 1)],
        columns=["start", "T", "miou"],
    )
    figure, axes = plt.subplots(1, 2)
    colours = []
    for ax, part in zip(axes, (frame, frame[frame["start"] != "b"]), strict=True):
        charts.lines(
            part, "T", "miou", "start", ax=ax, xlabel="T", ylabel="%", order=("a", "b", "c")
        )
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        handles = [line.get_color() for line in ax.get_legend().get_lines()]
        drawn = {line.get_color() for line in ax.lines if len(line.get_xdata())}
        colours.append((dict(zip(texts, handles, strict=True)), drawn))
    (all_of, three), (some_of, two) = colours
    assert all_of == some_of
    assert len(three) == 3
    assert two == {all_of["a"], all_of["c"]}
    charts.one_legend(axes)
    assert axes[0].get_legend() is None
    assert axes[1].get_legend() is not None
    plt.close(figure)


def test_every_lead_stands_in_its_rivals_block(ax):
    frame = pd.DataFrame(
        [
            ("FCN", "EMA, detached", 1.0, 0.5, 1.5),
            ("PSANet", "EMA, detached", -2.0, -2.5, -1.5),
            ("PSANet", "EMA, unrolled", 3.0, 2.0, 4.0),
        ],
        columns=["rival", "method", "difference", "low", "high"],
    )
    marks = pd.DataFrame({"rival": ["PSANet", "not run"], "difference": [1.5, 9.0]})
    charts.leads(frame, ax=ax, xlabel="mIoU", marks=marks)
    drawn = {
        line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in ax.lines
    }
    rows = [tick.get_text() for tick in ax.get_yticklabels()]

    def block(value, height):
        return rows[round(-height)], value

    detached = {block(v, h) for v, h in drawn["EMA, detached"] if not np.isnan(v)}
    assert detached == {("FCN", 1.0), ("PSANet", -2.0)}
    assert {block(v, h) for v, h in drawn["EMA, unrolled"] if not np.isnan(v)} == {("PSANet", 3)}
    assert {block(v, h) for v, h in drawn["published"]} == {("PSANet", 1.5)}
    heights = [h for points in drawn.values() for v, h in points if rows[round(-h)] == "PSANet"]
    assert len(set(heights[:3])) == 3, "no two stand on one line"


def test_a_ranking_has_the_best_on_top_and_recalled_numbers_open(ax):
    values = pd.Series({"B": 2.0, "A": 3.0, "C": 1.0})
    charts.ranking(values, ax=ax, xlabel="mIoU", own=[False, True, False], sure=[True, True, False])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["C", "B", "A"]
    dots = [line for line in ax.lines if len(line.get_xdata())]
    assert [line.get_markerfacecolor() != "white" for line in dots] == [False, True, True]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["recalled, unverified"]
    assert [line.get_color() == "C1" for line in dots] == [False, False, True]
    assert [text.get_text() for text in ax.texts] == ["1.0", "2.0", "3.0"]


@pytest.mark.parametrize("costs", [(30.0, 34.0), (31.0, 150.0), (90.0, 880.0), (5.0, 900.0)])
def test_labels_of_costs_do_not_overlap_on_their_logarithmic_axis(ax, costs):
    frame = pd.DataFrame({"cost": costs, "mean": [1.0, 2]}, index=["FCN", "EMA"])
    frame = frame.assign(low=frame["mean"], high=frame["mean"])
    charts.tradeoff(frame, ax=ax, xlabel="cost", ylabel="mIoU", family="EMA")
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    labels = [
        label.get_window_extent()
        for ticks in (ax.xaxis.get_major_ticks(), ax.xaxis.get_minor_ticks())
        for label in (tick.label1 for tick in ticks if low <= tick.get_loc() <= high)
        if label.get_text()
    ]
    labels.sort(key=lambda box: box.x0)
    assert len(labels) >= 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(labels))


def test_variants_share_a_colour_and_no_two_points_look_alike(ax):
    names = ["EMA, detached", "EMA, unrolled", *(f"rival {number}" for number in range(10))]
    costs, means = [3.0, 3, *range(1, 11)], [3.0, 40, *range(10, 20)]
    frame = pd.DataFrame({"cost": costs, "mean": means}, index=names, dtype=float)
    frame = frame.assign(low=frame["mean"] - 1, high=frame["mean"] + 1)
    charts.tradeoff(frame, ax=ax, xlabel="cost", ylabel="mIoU", family="EMA")
    looks = {
        line.get_label().split(":")[0]: (line.get_color(), line.get_marker()) for line in ax.lines
    }
    assert len(set(looks.values())) == 12
    assert looks["EMA, detached"][0] == looks["EMA, unrolled"][0]
    assert ax.get_legend().get_texts()[0].get_text() == "EMA, unrolled: 40.0"


def test_wide_intervals_of_a_tradeoff_are_cut_and_no_mean_is(ax):
    frame = pd.DataFrame({"cost": [1.0, 3], "mean": [40.0, 44], "low": [-20.0, 43]}, ["FCN", "EMA"])
    charts.tradeoff(frame.assign(high=[90.0, 45]), ax=ax, xlabel="", ylabel="", family="EMA")
    low, high = ax.get_ylim()
    assert (low, high) == (39, 45)
