"""The pages' figures draw what their tables say, each onto a figure of its own."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from study.made_up import ema, record, runs, walked

from emastudy.em.mixtures import GaussianMixture
from emastudy.study import figures
from emastudy.study.recipes import scenes
from emastudy.study.runs import to_frame
from emastudy.study.tables import ablations, bases, curves


@pytest.fixture(autouse=True)
def closed():
    plt.close("all")
    with plt.rc_context():
        figures.charts.use_style()
        yield
        plt.close("all")


def drawn():
    """The axes of the one figure that was drawn."""
    (number,) = plt.get_fignums()
    figure = plt.figure(number)
    figure.canvas.draw()
    return figure.axes


def title(ax):
    return ax.get_title(loc="left") or ax.get_title()


def labels(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


def by_t():
    values = {
        ema(num_iterations=count, gradient=regime): [50.0 + count, 52.0 + count]
        for count in (1, 2)
        for regime in ("detached", "unrolled")
    }
    return ablations.name_starts(runs(values))


def test_by_iterations_has_a_panel_a_regime_in_the_order_asked_for():
    order = [ablations.MOVING_AVERAGE]
    regimes = ["unrolled", "one_step", "detached"]
    figures.ablations.by_iterations(
        by_t(), "start", order=order, regimes=regimes, title="made-up scenes"
    )
    axes = drawn()
    assert [title(ax) for ax in axes] == ["gradients unrolled", "gradients detached"]
    assert axes[0].lines[0].get_ydata().tolist() == [52, 53]
    assert "made-up scenes, 2 seeds" in axes[0].figure.get_suptitle()


def test_starts_are_ordered_by_their_means():
    values = {ema(): [50.0, 51.0], ema(momentum=0.0): [60.0, 61.0]}
    figures.ablations.starts(ablations.name_starts(runs(values)), ["detached"], "scenes")
    assert labels(drawn()[0]) == ["moving average, α = 0", ablations.MOVING_AVERAGE]


def test_what_falls_is_counted_and_red():
    flat, falling = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 1.0]])
    figures.ablations.objective_traces({(1.0, "l2"): flat, (1.0, "none"): falling})
    left, right = drawn()
    assert title(left).endswith("falls in 0 of 1")
    assert title(right).endswith("falls in 1 of 1")
    assert right.lines[-1].get_color() == "C1"


@pytest.mark.parametrize("recorded", [True, False])
def test_a_gradient_that_was_not_recorded_is_said(recorded):
    curve = {"loss": [(10, 2.0), (20, 1.0)]}
    if recorded:
        curve["bases_gradient"] = [(10, 0.5)]
    table = ablations.name_starts(to_frame([record(scenes(), 50, curve)]))
    figures.ablations.instability(table, {ablations.MOVING_AVERAGE: "C0"})
    left, right = drawn()
    assert left.lines[0].get_ydata().tolist() == [2.0, 1.5]
    assert [text.get_text() for text in right.texts] == ([] if recorded else ["not recorded"])


def test_the_grid_and_its_changes_have_a_cell_and_a_line_a_number():
    table = by_t().assign(id="x")
    scores = pd.concat([table.assign(T_eval=t, miou=table["miou"] + t) for t in (1, 2)])
    figures.ablations.iteration_grid(scores, ["detached"], "scenes")
    cells = [text.get_text() for text in drawn()[0].texts]
    assert cells == ["53.0", "54.0", "54.0", "55.0"]
    plt.close("all")
    lone = scores[scores["T"] == scores["T"].max()].assign(seed=99, miou=0.0)
    figures.ablations.iteration_grid(pd.concat([scores, lone]), ["detached"], "scenes")
    assert [text.get_text() for text in drawn()[0].texts] == cells, "a seed that one row has"
    plt.close("all")
    figures.ablations.iterations_in_the_test(scores.assign(change=1.0), ["detached"])
    assert [t.get_text() for t in drawn()[0].get_legend().get_texts()] == ["1", "2"]


def test_only_regimes_with_runs_get_a_line():
    figures.ablations.trained_iterations(
        by_t(), "gradient", order=["one_step", "detached", "unrolled"], title="scenes"
    )
    (ax,) = drawn()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["detached", "unrolled"]


def test_options_have_a_panel_each_and_ticks_in_powers_of_two():
    values = {ema(concentration=value): [50.0, 51.0] for value in (0.25, 1.0, 4.0)}
    table = ablations.named(runs(values))
    panels = {"head.concentration": ("concentration λ", table)}
    figures.ablations.options(panels, ["detached"], "scenes")
    (ax,) = drawn()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1/4", "1", "4"]
    plt.close("all")
    left = table.assign(different=2.0, num_bases=16, critical=[[1.0, 2.0]] * len(table))
    both = {"head.num_bases": ("K", left), "head.concentration": ("λ", left)}
    figures.ablations.different_bases(both, ["detached"], "scenes")
    assert len(drawn()) == 2


def test_both_starts_of_a_block_lie_on_its_line():
    one = pd.DataFrame(
        {"block": ["A", "A", "B"], "start": ["from 0", "from 1", "from 0"], "seed": 0,
         "miou": [1.0, 2.0, 3.0]}
    )  # fmt: skip
    figures.comparisons.starts({"one": one, "other": one.iloc[:2]}, xlabel="", size=(6.0, 3.0))
    left, right = drawn()
    assert labels(left) == ["A", "B"]
    zero, one = (line.get_xydata() for line in right.lines)
    assert (zero[0, 0], one[0, 0]) == (1, 2)
    assert zero[0, 1] > one[0, 1]
    assert np.isnan([zero[1, 0], one[1, 0]]).all()


def test_panels_of_scores_share_their_lines():
    one = pd.DataFrame({"method": ["A", "B"], "seed": 0, "miou": [1.0, 2.0]})
    other = one.assign(miou=[4.0, 3.0])
    parts = {"one": one, "other": other}
    figures.comparisons.score_panels(parts, "method", xlabel="mIoU, %", size=(6.0, 3.0))
    left, right = drawn()
    assert labels(left) == ["B", "A"], "without an order the best of the first panel first"
    heights = [line.get_ydata()[0] for line in right.lines if line.get_xdata()[0] == 4.0]
    assert set(heights) == {-1}
    plt.close("all")
    figures.comparisons.score_panels(
        {"one": one, "other": one.iloc[:1]},
        "method",
        order=["B", "A"],
        xlabel="mIoU, %",
        size=(6.0, 3.0),
        title="both",
        in_view=True,
    )
    left, right = drawn()
    assert labels(left) == ["B", "A"]
    heights = {line.get_ydata()[0] for line in right.lines if not np.isnan(line.get_xdata()[0])}
    assert heights == {-1}, "a line stays a method's own where another one has no runs"
    assert [title(ax) for ax in (left, right)] == ["one", "other"]
    assert left.get_xlim() == pytest.approx((0.75, 2.25))


def test_losses_of_a_chain_follow_one_another():
    chain = to_frame(
        record(scenes("fcn", seed=seed, scale=scale), 50, {"loss": [(10, 2.0), (20, 1.0)]})
        for scale in (0.1, 0.2)
        for seed in (0, 1)
    )
    chain = chain.assign(step=[1, 1, 2, 2])
    figures.comparisons.chain(curves.losses(chain), chain)
    left, right = drawn()
    assert [line.get_xdata().tolist() for line in left.lines[::2]] == [[10, 20], [40, 50]]
    assert labels(right) == ["run 1", "run 2"]
    plt.close("all")
    figures.comparisons.losses(curves.losses(chain.assign(method="FCN")), start=10)
    assert drawn()[0].get_xlim()[0] == 10


def test_maps_have_a_row_an_image_and_name_the_bases_once():
    maps = pd.DataFrame(
        {
            "bases": [[3, 1]] * 2,
            "chosen": [["pure", "used"]] * 2,
            "maps": [np.full((2, 2, 4, 4), 255).tolist()] * 2,
        }
    )
    pictures = [np.zeros((8, 8, 3), np.uint8)] * 2
    masks = [np.eye(8, dtype=np.uint8)] * 2
    colors = [(0, 0, 0), (255, 0, 0)]
    figures.bases.maps(maps, pictures, pictures, masks, colors)
    titles = [title(ax) for ax in drawn()]
    assert titles[3:5] == ["3, pure\nmax 1.00", "1, used\nmax 1.00"]
    assert titles[8:10] == ["max 1.00", "max 1.00"]
    plt.close("all")
    figures.bases.map_iterations(maps.iloc[0], pictures[0])
    assert [title(ax) for ax in drawn()][2] == "basis 3, pure\nt = 2, max 1.00"
    plt.close("all")
    figures.bases.outlined_maps(maps, masks, ["sky", "sea"], colors)
    assert len(drawn()) == 2 * 3


def test_classes_served_are_sorted_by_use_with_all_pixels_last():
    service = bases.service([[1, 1], [6, 0]])
    figures.bases.classes_served(*service, names=["sky", "sea"], title="8 pixels")
    assert labels(drawn()[0]) == ["basis 1 (75.0%)", "basis 0 (25.0%)", "all pixels"]


def test_information_and_different_bases_follow_the_iterations():
    table = runs({ema(): [1.0, 1.0]}).assign(
        information=[[0.1, 0.2]] * 2,
        random_bases=[[0.0, 0.1]] * 2,
        shuffled=0.05,
        entropy=0.5,
        counts=[[[3, 1], [0, 4]]] * 2,
        distinct=[[16.0, 2.0]] * 2,
    )
    figures.bases.information(bases.courses(table), table, ["detached"], "scenes")
    (ax,) = drawn()
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([0.1, 0.2])
    assert "all there is to know: 0.50 nats" in ax.figure.get_suptitle()
    plt.close("all")
    figures.bases.usage(bases.sorted_usage(table))
    assert drawn()[0].lines[0].get_ydata().tolist() == [50, 50]
    plt.close("all")
    courses = bases.distinct_courses(table)
    figures.bases.distinct(courses, bases=16, regimes=["detached"], title="scenes")
    assert drawn()[0].lines[0].get_ydata().tolist() == [16, 2]


def test_robustness_has_a_panel_a_kind_with_the_clean_score_in_each():
    rows = [("FCN", s, k, v, 50.0 - v) for s in (0, 1) for k, v in (("", 0), ("blur", 1))]
    scores = pd.DataFrame(rows, columns=["method", "seed", "at.corruption", "at.severity", "miou"])
    figures.robustness.severities(scores, ["blur", "noise"], "scenes")
    blur, noise = drawn()
    assert blur.lines[0].get_xdata().tolist() == [0, 1]
    assert noise.lines[0].get_xdata().tolist() == [0]
    plt.close("all")
    ranks = runs({ema(): [1.0]}).assign(
        num_bases=2, spectrum_x=[[1.0, 0.5]], spectrum_estimate=[[1.0]]
    )
    figures.robustness.spectra(ranks, "scenes")
    assert [line.get_ydata().tolist() for line in drawn()[0].lines[:2]] == [[1, 0.5], [1]]
    plt.close("all")
    tested = pd.DataFrame(
        {"gradient": "detached", "seed": [0, 0], "images": "clean", "T_eval": [1, 2], "miou": 50.0}
    )
    figures.robustness.by_iterations(tested, ["detached"])
    assert len(drawn()) == 1


def test_audits_lie_on_the_line_of_their_kind():
    tolerance = {"miou": 0.3, "loss": 0.02}
    audits = pd.DataFrame(
        {"profile": "scenes", "kind": ["FCN", "A²"], "difference": [0.1, -0.5], "loss": [0.0, 0.01]}
    )
    figures.audits.differences(audits, tolerance)
    left, right = drawn()
    assert labels(left) == ["FCN (1)", "A² (1)"]
    (dots, _) = left.lines
    assert list(zip(dots.get_xdata(), dots.get_ydata(), strict=True)) == [(0.1, 0), (-0.5, 1)]
    assert left.get_xlim()[0] < -0.5
    plt.close("all")
    figures.audits.differences(audits.iloc[:0], tolerance)
    assert [text.get_text() for text in drawn()[1].texts] == ["nothing is audited yet"]


def test_scenes_are_drawn_with_their_knobs():
    figures.scenes.samples(0, count=2)
    assert len(drawn()) == 6
    plt.close("all")
    figures.scenes.knobs(0, {"noise": (0.0, 0.1), "num_regions": (3,)})
    titles = [title(ax) for ax in drawn()]
    assert titles == ["noise = 0.0", "noise = 0.1", "num_regions = 3", ""]
    plt.close("all")
    figures.scenes.pixel_colors(0, images=1)
    assert drawn()[0].lines


def test_leads_have_a_panel_a_rival_and_a_row_a_data_set():
    rows = [
        (rival, data, method, 1.0, 0.5, 1.5)
        for rival in ("FCN", "Non-local") for data in ("scenes", "photographs")
        for method in ("EMA, detached", "EMA, unrolled")
    ]  # fmt: skip
    rows.append(("DeepLabV3+", "photographs", "EMA, detached", -3.0, -4.0, -2.0))
    columns = ["rival", "data", "method", "difference", "low", "high"]
    figures.comparisons.leads_by_data(pd.DataFrame(rows, columns=columns))
    first, second, third = drawn()
    assert labels(first) == ["scenes", "photographs"]
    # A rival that was not run on all data stands beside those that it was run on.
    points = {
        round(-height): x
        for line in third.lines
        for x, height in zip(line.get_xdata(), line.get_ydata(), strict=True)
        if x == -3.0
    }
    assert points == {1: -3.0}
    assert second.get_xlabel() == "mIoU above Non-local"
    (legend,) = first.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["EMA, detached", "EMA, unrolled"]


def test_changes_have_a_line_each():
    table = pd.DataFrame(
        {"difference": [1.0, -2.0], "low": [0.5, -3.0], "high": [1.5, -1.0]}, index=["a", "b"]
    )
    figures.comparisons.changes(table, "mIoU")
    (ax,) = drawn()
    assert labels(ax) == ["a", "b"]


@pytest.mark.parametrize("draw", ["overview", "one_iteration", "iterations"])
def test_a_walk_through_a_photograph_is_drawn(draw):
    getattr(figures.walkthrough, draw)(walked())
    titles = [title(ax) for ax in drawn()]
    assert any("3 bases" in text for text in titles) == (draw == "overview")
    assert any("cat" in text for text in titles) == (draw == "overview")


def test_the_sphere_is_animated_one_frame_an_iteration():
    rest = torch.nn.functional.normalize(torch.randn(3, 3, generator=torch.Generator()), dim=1)
    with Image.open(io.BytesIO(figures.theory.sphere(rest, rest.expand(2, 3, 3), 2.0))) as gif:
        # The last is held, which is one frame that lasts longer.
        assert (gif.format, gif.n_frames) == ("GIF", 2)
    assert not plt.get_fignums()


def test_clusters_are_animated_one_frame_an_iteration():
    mixture = GaussianMixture("full")
    x = torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    states = [mixture.start(x[:3])]
    states.append(mixture.m_step(x, mixture.e_step(x, states[0])))
    with Image.open(io.BytesIO(figures.theory.clusters(x, mixture, states))) as gif:
        assert (gif.format, gif.n_frames) == ("GIF", 2)
    assert not plt.get_fignums()


def test_single_bases_are_drawn_with_the_largest_share_of_each():
    walk = walked()
    figures.walkthrough.overview(walk, 4, single=True)
    maps = [ax for ax in drawn() if ax.get_xlabel()]
    first, second, third, fourth = walk.examples(4)
    assert [title(ax) for ax in maps[:4]] == [
        f"basis {first}\n1 of 3 alike", f"basis {second}\nlike no other",
        f"basis {third}\nlike no other", f"basis {fourth}\n1 of 3 alike",
    ]  # fmt: skip
    most = walk.responsibilities[1, first].max()
    assert maps[4].get_xlabel() == f"at most {most:.0%}"


def test_a_worse_photograph_has_a_row_and_says_how_far_it_moved():
    figures.walkthrough.low_rank({"clean": walked(0), "worse": walked(1)})
    titles = [title(ax) for ax in drawn()]
    assert titles[0] == "clean"
    assert titles[3] == "worse"
    assert ["moved" in text for text in titles] == [False] * 4 + [True] * 2
