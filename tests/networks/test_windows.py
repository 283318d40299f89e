"""Heads that see windows: each window is an EM of its own, at the cost of one."""

import pytest
import torch
from torch.export import Dim
from torch.utils.flop_counter import FlopCounterMode

from emastudy import em, networks
from emastudy.engine.diagnostics import unit_of
from emastudy.errors import InputError
from emastudy.networks import EMAU, WindowedEMAU


@pytest.fixture
def x():
    return torch.randn(2, 16, 7, 5)


def test_one_window_is_the_unit_with_heads(x):
    windowed = WindowedEMAU(16, 4, heads=4, windows=(1,))
    plain = EMAU(16, 4, heads=4, concentration_scale="learned", gradient="unrolled")
    plain.fold = False
    plain.load_state_dict(windowed.state_dict())
    for mode in (True, False):
        torch.testing.assert_close(windowed.train(mode)(x), plain.train(mode)(x))
    torch.testing.assert_close(windowed.bases, plain.bases)
    for ours, theirs in zip(
        windowed.attend(x, trace=True), plain.attend(x, trace=True), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("heads", [2, 4])
def test_every_window_runs_an_em_that_sees_nothing_else(x, heads):
    unit = WindowedEMAU(16, 4, heads=heads, windows=(1, 3), concentration=2.0).eval()
    features = unit.conv1(x)
    expected = torch.empty_like(features)
    width = 16 // heads
    for head in range(heads):
        mine = slice(head * width, (head + 1) * width)
        whole = head < heads // 2
        rows = [(0, 7)] if whole else [(0, 2), (2, 4), (4, 7)]
        columns = [(0, 5)] if whole else [(0, 1), (1, 3), (3, 5)]
        for top, bottom in rows:
            for left, right in columns:
                part = features[:, mine, top:bottom, left:right]
                pixels = part.flatten(2).transpose(1, 2)
                z, bases, _ = em.expectation_maximization(
                    pixels, unit.bases[head], 3, concentration=2.0
                )
                estimate = em.reconstruct(z, bases).transpose(1, 2)
                expected[:, mine, top:bottom, left:right] = estimate.unflatten(2, part.shape[2:])
    change = unit.norm(unit.conv2(expected.relu()))
    torch.testing.assert_close(unit(x), (x + change).relu(), rtol=1e-4, atol=1e-5)


def test_responsibilities_lie_where_their_pixels_do(x):
    unit = WindowedEMAU(16, 4, heads=2, windows=(2,)).eval()
    z, bases, objective = unit.attend(x, trace=True)
    assert (z.shape, bases.shape, objective.shape) == ((2, 2, 35, 4), (2, 2, 4, 8), (2, 2, 4))
    torch.testing.assert_close(z.sum(-1), torch.ones(2, 2, 35))
    corner = x[:, :, 3:, 2:]  # the last window alone
    alone = WindowedEMAU(16, 4, heads=2, windows=(1,)).eval()
    alone.load_state_dict(unit.state_dict())
    there = z.unflatten(2, (7, 5))[:, :, 3:, 2:].flatten(2, 3)
    torch.testing.assert_close(there, alone.attend(corner).responsibilities)
    assert (objective.diff(dim=-1) >= -1e-3).all()


def test_the_objective_is_the_sum_over_windows(x):
    unit = WindowedEMAU(16, 4, heads=2, windows=(2,), concentration=2.0).eval()
    features = unit.conv1(x).unflatten(1, (2, 8))
    expected = torch.zeros(2, 2)
    for rows in (slice(0, 3), slice(3, 7)):
        for columns in (slice(0, 2), slice(2, 5)):
            pixels = features[..., rows, columns].flatten(-2).transpose(-2, -1)
            expected += em.objective(pixels, unit.bases, concentration=2.0)
    torch.testing.assert_close(unit.attend(x, trace=True).objective[..., 0], expected)


def test_shared_bases_follow_the_mean_over_images_and_windows(x):
    unit = WindowedEMAU(16, 4, heads=4, momentum=0.75).train()
    start = unit.bases.clone()
    means = unit.attend(x).bases.mean(0)
    unit(x)
    torch.testing.assert_close(unit.bases, 0.75 * start + 0.25 * means)


def test_windows_cost_no_multiply_add():
    x = torch.randn(1, 16, 8, 8)
    counts = []
    for windows in ((1,), (1, 2), (2, 4)):
        with FlopCounterMode(display=False) as counter:
            WindowedEMAU(16, 4, heads=4, windows=windows).eval()(x)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == counts[2] > 0


@pytest.mark.parametrize("gradient", ["detached", "one_step", "unrolled"])
def test_gradients_reach_what_the_regime_says(x, gradient):
    scale = "fixed" if gradient == "detached" else "learned"
    unit = WindowedEMAU(16, 4, heads=4, gradient=gradient, concentration_scale=scale)
    unit(x).square().sum().backward()
    if gradient == "detached":
        assert unit.conv1.weight.grad is None
        return
    for gradient in (unit.conv1.weight.grad, unit.log_scale.grad):
        assert gradient.isfinite().all()
        assert (gradient != 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windows": ()}, r"windows is \(\); expected at least one grid, such as \[1, 2\]"),
        (
            {"windows": (1, 0)},
            r"windows is \(1, 0\); expected a list, each .* number ≥ 1",
        ),
        *(
            pytest.param({"windows": wrong}, "windows is .* expected", marks=pytest.mark.unchecked)
            for wrong in (2, "1,2", (1, 2.0))
        ),
        ({"heads": 3}, "heads is 3; expected a multiple of 2, .* 16: one of 2, 4, 8, 16$"),
        ({"heads": 6}, "heads is 6; .* that divides channels, 16: one of 2, 4, 8, 16$"),
        ({"windows": (1, 2, 3)}, "channels is 16; expected a multiple of 3, the number of grids"),
        ({"concentration_scale": "critical"}, "is 'critical'; expected one of learned, fixed"),
    ],
)
def test_arguments_out_of_range_are_named(options, message):
    with pytest.raises(InputError, match=message):
        WindowedEMAU(16, 4, **options)


def test_maps_smaller_than_their_windows_are_refused(x):
    with pytest.raises(InputError, match=r"7×1 pixels, fewer a side than windows=\(1, 2\)"):
        WindowedEMAU(16, 4)(x[..., :1])


def test_measures_of_em_over_the_whole_map_are_refused():
    network = networks.build("windowed_ema", num_classes=2, channels=16)
    with pytest.raises(InputError, match="runs EM in windows"):
        unit_of(network)
    with pytest.raises(InputError, match="no one X"):
        network.head.context.em_input(torch.randn(1, 16, 4, 4))


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:FutureWarning")
def test_a_trace_is_refused(x):
    with pytest.raises(InputError, match="a traced unit cannot tell of later maps"):
        torch.jit.trace(WindowedEMAU(16, 4).eval(), x)


@pytest.mark.unchecked  # sizes of graphs are no int to the shape checks
def test_an_exported_unit_serves_maps_of_its_size_and_no_other(x):
    unit = WindowedEMAU(16, 4, heads=4).eval()
    graph = torch.export.export(unit, (x,), strict=False).module()
    torch.testing.assert_close(graph(x), unit(x))
    with pytest.raises(AssertionError, match="Guard failed"):
        graph(x[..., :4])


@pytest.mark.unchecked
@pytest.mark.parametrize("strict", [True, False])
def test_an_export_for_several_sizes_is_refused(x, strict):
    unit, sizes = WindowedEMAU(16, 4, heads=4).eval(), {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with pytest.raises(
        (InputError, RuntimeError), match="for maps of one size alone: leave height"
    ):
        torch.export.export(unit, (x,), dynamic_shapes=(sizes,), strict=strict)
    torch.export.export(unit, (x,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=strict)


@pytest.mark.unchecked
def test_onnx_refuses_several_sizes_with_the_same_words(x):
    pytest.importorskip("onnxscript", reason="in the extra 'dev'")
    unit, sizes = WindowedEMAU(16, 4, heads=4).eval(), {2: "height", 3: "width"}
    with pytest.raises(RuntimeError, match="for maps of one size alone: leave height and width"):
        torch.onnx.export(unit, (x,), dynamo=True, dynamic_shapes=(sizes,), verbose=False)


def test_it_works_in_bfloat16_under_autocast(x):
    unit = WindowedEMAU(16, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert unit(x).isfinite().all()
    assert unit.bases.dtype == torch.float32


def test_other_peoples_weights_are_told_how_to_make_the_unit_for_them():
    ours, theirs = WindowedEMAU(16, 4), WindowedEMAU(16, 8, heads=2)
    with pytest.raises(RuntimeError, match=r"WindowedEMAU\(16, num_bases=8, heads=2\)"):
        ours.load_state_dict(theirs.state_dict())
