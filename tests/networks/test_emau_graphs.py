"""The unit traced, exported, compiled, copied and averaged by others' tools."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.optim.swa_utils import AveragedModel, update_bn

from emastudy import EMAU
from emastudy.networks import WindowedEMAU

OPTIONS = [
    {},
    {"gradient": "one_step"},
    {"gradient": "unrolled"},
    {"maintenance": "fixed"},
    {"maintenance": "learned", "gradient": "unrolled"},
    {"maintenance": "grid"},
    {"normalization": "gaussian"},
    {"heads": 2},
    {"heads": 4, "value_conv": True, "gradient": "unrolled", "maintenance": "grid"},
    {"heads": 2, "concentration_scale": "critical"},
    {"heads": 2, "concentration_scale": "learned", "gradient": "one_step"},
]
# 2TK is 24: one map is folded by the unit itself, one is not; some lie, some stand.
SHAPES = [(2, 8, 5, 7), (1, 8, 4, 3), (3, 8, 12, 9)]
DYNAMIC = {0: Dim("batch", min=1), 2: Dim("height", min=2), 3: Dim("width", min=2)}
tracing_is_old = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:FutureWarning")


def make(**options):
    torch.manual_seed(0)
    return EMAU(8, 4, **options).eval()


def assert_same_at_all_sizes(graph, unit):
    for shape in SHAPES:
        features = torch.randn(shape)
        torch.testing.assert_close(graph(features), unit(features), rtol=1e-4, atol=1e-5)


@pytest.mark.unchecked  # sizes of graphs are no int to the shape checks
@tracing_is_old
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_traced_unit_serves_maps_of_any_size(options, shape):
    unit = make(**options)
    assert_same_at_all_sizes(torch.jit.trace(unit, torch.randn(shape)), unit)


@pytest.mark.unchecked
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_unit_serves_maps_of_any_size(options, strict):
    unit = make(**options)
    program = torch.export.export(
        unit, (torch.randn(2, 8, 5, 7),), dynamic_shapes=(DYNAMIC,), strict=strict
    )
    assert_same_at_all_sizes(program.module(), unit)


@pytest.mark.unchecked
@pytest.mark.parametrize("options", [{}, {"maintenance": "grid"}, {"heads": 2, "value_conv": True}])
def test_onnx_serves_maps_of_any_size(options):
    onnx = pytest.importorskip("onnx.reference", reason="in the extra 'dev'")
    pytest.importorskip("onnxscript", reason="in the extra 'dev'")
    unit = make(**options)
    program = torch.onnx.export(
        unit, (torch.randn(2, 8, 5, 7),), dynamo=True, dynamic_shapes=(DYNAMIC,), verbose=False
    )
    evaluator = onnx.ReferenceEvaluator(program.model_proto)
    (name,) = evaluator.input_names

    def run(features):
        return torch.from_numpy(evaluator.run(None, {name: features.numpy()})[0])

    with torch.no_grad():
        assert_same_at_all_sizes(run, unit)


@pytest.mark.unchecked
@tracing_is_old
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maintenance": "pixels"}, 'maintenance="pixels" .* traced or exported .*"grid"'),
        ({"maintenance": "grid", "num_bases": 6}, "2×3 cells along the longer side.* square"),
    ],
)
def test_what_depends_on_the_size_refuses_to_be_traced(options, message):
    unit = EMAU(8, **{"num_bases": 4, **options}).eval()
    with pytest.raises(ValueError, match=message):
        torch.jit.trace(unit, torch.randn(2, 8, 5, 7))


def test_pixels_refuse_to_be_exported():
    unit = make(maintenance="pixels")
    with pytest.raises(ValueError, match='maintenance="pixels" .* traced or exported'):
        torch.export.export(unit, (torch.randn(2, 8, 5, 7),), strict=False)


@tracing_is_old
def test_scripting_says_what_to_do_instead():
    with pytest.raises(ValueError, match=r"torch.export.export, or torch.jit.trace"):
        torch.jit.script(nn.Sequential(EMAU(8)))


def test_grid_cells_in_graphs_are_those_of_adaptive_pooling():
    from emastudy.networks.graphs import pool_any_size

    for size in ((5, 7), (4, 4), (2, 9), (13, 3), (1, 1)):
        image = torch.randn(2, 3, *size, dtype=torch.float64)
        for cells in ((2, 2), (1, 3), (4, 3)):
            expected = nn.functional.adaptive_avg_pool2d(image, cells)
            torch.testing.assert_close(pool_any_size(image, cells), expected)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "training"),
    [
        ({}, True),
        ({"gradient": "unrolled"}, True),
        ({"maintenance": "grid"}, False),
        ({"heads": 2, "value_conv": True, "concentration_scale": "critical"}, True),
    ],
)
def test_compiled_whole_it_does_the_same_at_all_sizes(options, training):
    torch.compiler.reset()
    unit = make(**options).train(training)
    plain = copy.deepcopy(unit)
    compiled = torch.compile(unit, fullgraph=True, backend="aot_eager")
    for shape in SHAPES:
        features = torch.randn(shape)
        torch.testing.assert_close(compiled(features), plain(features), rtol=1e-4, atol=1e-5)
    if unit.bases is not None:
        torch.testing.assert_close(unit.bases, plain.bases)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (EMAU, {"gradient": "unrolled"}),
        (EMAU, {"gradient": "one_step", "num_iterations": 1, "concentration_scale": "learned"}),
        (EMAU, {"gradient": "unrolled", "heads": 2, "concentration_scale": "learned"}),
        (WindowedEMAU, {"heads": 2}),
    ],
)
def test_compiled_its_gradients_are_those_of_bases_that_had_not_moved(kind, options):
    torch.compiler.reset()
    torch.manual_seed(0)
    unit = kind(8, 4, momentum=0.5, **options).train()
    plain = copy.deepcopy(unit)
    compiled = torch.compile(unit, backend="aot_eager")
    for shape in SHAPES[:2]:
        features = torch.randn(shape)
        for one in (compiled, plain):
            one.zero_grad()
            one(features).square().sum().backward()
        for ours, theirs in zip(unit.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)


def test_copies_and_pickles_are_the_unit():
    unit = make().train()
    unit(torch.randn(2, 8, 5, 7))
    file = io.BytesIO()
    torch.save(unit, file)
    file.seek(0)
    copies = [
        copy.deepcopy(unit),
        pickle.loads(pickle.dumps(unit)),
        torch.load(file, weights_only=False),
    ]
    features = torch.randn(2, 8, 5, 7)
    expected = unit(features)
    for other in copies:
        assert other(features).equal(expected)
        assert other.bases.equal(unit.bases)
        assert set(other.state_dict()) == set(unit.state_dict())


@pytest.mark.parametrize("use_buffers", [True, False])
def test_an_averaged_model_has_bases_of_its_own(use_buffers):
    unit = make().train()
    averaged = AveragedModel(unit, use_buffers=use_buffers)
    seen = []
    for _ in range(3):
        unit(torch.randn(2, 8, 5, 7))
        averaged.update_parameters(unit)
        seen.append(unit.bases.clone())
    expected = torch.stack(seen).mean(dim=0) if use_buffers else seen[-1]
    torch.testing.assert_close(averaged.module.bases, expected)
    before = unit.bases.clone()
    update_bn([torch.randn(2, 8, 5, 7)], averaged)
    assert unit.bases.equal(before)
    assert averaged.module.bases.isfinite().all()


def test_data_parallel_on_a_machine_without_gpus_is_the_unit():
    unit = make().train()
    plain = copy.deepcopy(unit)
    features = torch.randn(2, 8, 5, 7)
    assert nn.DataParallel(unit)(features).equal(plain(features))
    assert unit.bases.equal(plain.bases)
