"""The unit in half precision and float64, and on input that no number can be made of."""

import copy

import pytest
import torch

from emastudy import EMAU, em

SHARED = [
    {},
    {"maintenance": "fixed"},
    {"maintenance": "learned", "gradient": "unrolled"},
    {"heads": 2, "value_conv": True},
    {"heads": 2, "gradient": "unrolled", "concentration_scale": "learned"},
]
OWN = [{"maintenance": "grid"}, {"maintenance": "pixels"}]
# At 2TK = 24 pixels the first conv is folded into the bases, or no longer.
SIZES = [(3, 5), (9, 11)]


def make(**options):
    torch.manual_seed(0)
    return EMAU(16, 4, **options)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("normalization", ["l2", "layer", "none", "gaussian"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", [*SHARED, *OWN])
def test_a_half_module_is_the_float32_module_up_to_rounding(dtype, size, normalization, options):
    unit = make(normalization=normalization, concentration=0.25, **options).eval()
    features = torch.randn(2, 16, *size)
    half = copy.deepcopy(unit).to(dtype)
    with torch.no_grad():
        output = half(features.to(dtype))
        assert output.dtype == dtype
        assert half.attend(features.to(dtype)).responsibilities.dtype == torch.float32
        exact = unit(features)
        # What the rounding of weights and features does by itself, all else in float32.
        rounded = copy.deepcopy(half).float()(features.to(dtype).float())
    allowed = 5 * (rounded - exact).norm() + torch.finfo(dtype).eps * exact.norm()
    assert (output.float() - exact).norm() < allowed


@pytest.mark.parametrize("gradient", ["detached", "one_step", "unrolled"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_module_of_any_precision_trains(dtype, size, gradient):
    unit = make(gradient=gradient).to(dtype).train()
    single = make(gradient=gradient).train()
    features = torch.randn(2, 16, *size)
    unit(features.to(dtype)).square().mean().backward()
    single(features).square().mean().backward()
    assert unit.bases.dtype == unit.conv2.weight.grad.dtype == dtype
    rounding = 10 * max(torch.finfo(dtype).eps, 1e-6)
    torch.testing.assert_close(unit.bases.float(), single.bases, rtol=rounding, atol=rounding)
    ours, theirs = unit.conv2.weight.grad.float(), single.conv2.weight.grad
    assert (ours - theirs).norm() <= 10 * rounding * theirs.norm()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient": "unrolled"},
        {"heads": 2, "value_conv": True, "gradient": "one_step"},
    ],
)
def test_autocast_moves_float32_bases_alike(dtype, size, options):
    unit = make(**options).train()
    single = copy.deepcopy(unit)
    features = torch.randn(2, 16, *size)
    with torch.autocast("cpu", dtype):
        output = unit(features)
    output.float().square().mean().backward()
    rounding = 10 * torch.finfo(dtype).eps
    torch.testing.assert_close(output.float(), single(features), rtol=rounding, atol=rounding)
    assert unit.bases.dtype == torch.float32
    torch.testing.assert_close(unit.bases, single.bases, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("normalization", ["l2", "layer", "none", "gaussian"])
@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("options", [{}, {"heads": 2, "value_conv": True, "num_iterations": 1}])
def test_sums_over_many_pixels_do_not_overflow_float16(normalization, autocast, fold, options):
    # 129² pixels of about 8: their sum over a basis is beyond 65,504, and so, with concentration
    # 100, are the exponents.
    unit = make(normalization=normalization, concentration=100.0, **options).train()
    unit.fold = fold
    features = 8 + torch.randn(1, 16, 129, 129)
    half = copy.deepcopy(unit) if autocast else copy.deepcopy(unit).half()
    with torch.autocast("cpu", torch.float16, enabled=autocast):
        assert half(features.half()).isfinite().all()
    assert half.bases.isfinite().all()
    assert half.bases.dtype == (torch.float32 if autocast else torch.float16)
    with torch.no_grad(), torch.autocast("cpu", torch.float16, enabled=autocast):
        found = half.eval().attend(features.half(), trace=True)
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in found)


@pytest.mark.parametrize("normalization", ["l2", "layer", "none", "gaussian"])
def test_the_steps_take_float16_features_of_any_finite_size(normalization):
    generator = torch.Generator().manual_seed(0)
    x = (200 * torch.randn(5000, 64, generator=generator)).half()
    bases = em.normalize(torch.randn(3, 64, generator=generator), "l2")
    options = {"concentration": 50.0, "normalization": normalization}
    z = em.responsibilities(x, bases, **options)
    torch.testing.assert_close(z, em.responsibilities(x.float(), bases, **options))
    means = em.update_bases(x, z.half(), normalization=normalization)
    expected = em.update_bases(x.float(), z.half().float(), normalization=normalization)
    torch.testing.assert_close(means, expected)
    torch.testing.assert_close(
        em.objective(x, bases, **options), em.objective(x.float(), bases, **options)
    )
    with torch.autocast("cpu", torch.float16):
        torch.testing.assert_close(em.responsibilities(x.float(), bases, **options), z)


def test_normalisation_is_done_in_float32():
    bases = torch.full((2, 64), 300.0, dtype=torch.float16)  # of squares beyond 65,504
    for normalization in ("l2", "none"):
        assert em.normalize(bases, normalization).dtype == torch.float32
    norms = em.normalize(bases.bfloat16(), "l2").norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(2))


@pytest.mark.parametrize("options", [*SHARED, *OWN, {"momentum": 0.0}, {"momentum": 1.0}])
@pytest.mark.parametrize("size", SIZES)
def test_a_batch_of_no_images_leaves_everything_as_it_was(options, size):
    unit = make(**options).train()
    before = copy.deepcopy(unit.state_dict())
    assert unit(torch.randn(0, 16, *size)).shape == (0, 16, *size)
    del before["norm.num_batches_tracked"]
    assert all(unit.state_dict()[name].equal(value) for name, value in before.items())
    assert unit(torch.randn(2, 16, *size)).isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
@pytest.mark.parametrize("normalization", ["l2", "layer", "none", "gaussian"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [{}, {"heads": 2, "concentration_scale": "critical"}])
def test_a_bad_batch_never_reaches_the_bases(value, normalization, size, options):
    unit = make(normalization=normalization, **options).train()
    before = unit.bases.clone()
    bad = torch.randn(2, 16, *size)
    bad[1, :, 0, 0] = value
    unit(bad)
    assert unit.bases.isfinite().all()
    if value != value:
        assert unit.bases.equal(before)
    good = torch.randn(2, 16, *size)
    assert unit(good).isfinite().all()
    assert not unit.bases.equal(before)


def test_bases_too_large_for_float16_are_not_kept():
    unit = make(normalization="none").half().train()
    before = unit.bases.clone()
    with torch.no_grad():
        unit._maintain(torch.full((1, 4, 16), 1e6), torch.randn(1, 16, 3, 3).half())
    assert unit.bases.equal(before)


@pytest.mark.parametrize("value", [0.0, 1.0, -5.0, 1e4])
@pytest.mark.parametrize("normalization", ["l2", "layer", "none", "gaussian"])
@pytest.mark.parametrize("scale", ["fixed", "critical"])
def test_a_constant_map_is_a_map(value, normalization, scale):
    unit = make(normalization=normalization, concentration_scale=scale).train()
    assert unit(torch.full((2, 16, 9, 9), value)).isfinite().all()
    assert unit.bases.isfinite().all()
