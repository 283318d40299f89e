"""The fused kernels against the package's EM: on a GPU, or by Triton's interpreter on the CPU."""

import importlib
import os

import pytest
import torch
import torch.nn.functional as F

from emastudy import EMAU, em

# (B, N, C, K), and whether all images start from the same bases. The second fills neither tiles nor
# powers of two.
CASES = [((2, 40, 16, 8), True), ((1, 70, 40, 5), False)]
CONCENTRATION = 2.0
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

pytestmark = pytest.mark.skipif(
    DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1",
    reason="no CUDA device, and no interpreter beside torch.compile (SHAPE_CHECKS=0)",
)


@pytest.fixture
def fused(monkeypatch, root):
    pytest.importorskip("triton", reason="triton comes with torch on Linux alone")
    monkeypatch.syspath_prepend(str(root))
    module = importlib.import_module("benchmarks.fused")
    monkeypatch.setattr(module, "CHUNK", 16)  # several, as with the 512 channels of the paper
    return module


def problem(shape, shared):
    batch, pixels, channels, count = shape
    torch.manual_seed(0)
    x, g = torch.randn(2, batch, pixels, channels, device=DEVICE)
    own = [] if shared else [batch]
    bases = F.normalize(torch.randn(*own, count, channels, device=DEVICE), dim=-1)
    return x.requires_grad_(), bases.requires_grad_(), g


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_em(fused, case, iterations):
    x, bases, _ = problem(*case)
    estimate, end = fused.attend(x, bases, iterations, concentration=CONCENTRATION)
    found = em.expectation_maximization(x, bases, iterations, concentration=CONCENTRATION)
    torch.testing.assert_close(end, found.bases, rtol=1e-5, atol=1e-5)
    expected = em.reconstruct(found.responsibilities, found.bases)
    torch.testing.assert_close(estimate, expected, rtol=1e-5, atol=1e-5)
    assert not estimate.requires_grad


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("regime", ["one_step", "unrolled"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_autograd(fused, case, regime, iterations):
    x, bases, g = problem(*case)
    options = {"concentration": CONCENTRATION}
    learns = [x, bases] if regime == "unrolled" else [x]
    estimate, _ = fused.attend(x, bases, iterations, gradient=regime, **options)
    expected = em.gradients.reestimate(x, bases, iterations, regime=regime, **options)
    pairs = zip(
        torch.autograd.grad(estimate, learns, g),
        torch.autograd.grad(expected, learns, g),
        strict=True,
    )
    for ours, theirs in pairs:
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_a_gradient_that_comes_through_the_bases_counts(fused):
    x, bases, g = problem(*CASES[0])
    direction = torch.randn(2, 8, 16, device=DEVICE)
    estimate, end = fused.attend(x, bases, 3, gradient="unrolled")
    z, expected, _ = em.expectation_maximization(x, bases, 3, trace=False)
    both = (
        ((estimate * g).sum() + (end * direction).sum()),
        ((em.reconstruct(z, expected) * g).sum() + (expected * direction).sum()),
    )
    alone = (end * direction).sum(), (expected * direction).sum()
    for ours, theirs in (both, alone):
        found, wanted = (
            torch.autograd.grad(value, [x, bases], retain_graph=True) for value in (ours, theirs)
        )
        for a, b in zip(found, wanted, strict=True):
            assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_bfloat16_is_float32_up_to_its_rounding(fused):
    x, bases, g = problem(*CASES[0])
    half = x.detach().bfloat16().requires_grad_()
    estimate, end = fused.attend(half, bases, 3, gradient="unrolled")
    exact, end_exact = fused.attend(x, bases, 3, gradient="unrolled")
    assert (estimate.dtype, end.dtype) == (torch.bfloat16, torch.float32)
    assert (estimate.float() - exact).norm() < 0.03 * exact.norm()
    assert (end - end_exact).norm() < 0.03 * end_exact.norm()
    ours = torch.autograd.grad(estimate, half, g.bfloat16())[0].float()
    theirs = torch.autograd.grad(exact, x, g)[0]
    assert (ours - theirs).norm() < 0.1 * theirs.norm()


def test_other_types_are_refused_by_name(fused):
    x, bases, _ = problem(*CASES[0])
    with pytest.raises(TypeError, match=r"torch\.float16; expected float32 or bfloat16"):
        fused.attend(x.half(), bases, 3)


@pytest.mark.parametrize("gradient", ["detached", "unrolled"])
def test_the_unit_around_the_kernel_is_the_unit(fused, gradient):
    from benchmarks.gpu.kernels import FusedEMAU

    torch.manual_seed(0)
    unit = EMAU(16, 4, gradient=gradient).to(DEVICE)
    ours = FusedEMAU(16, 4, gradient=gradient).to(DEVICE)
    ours.load_state_dict(unit.state_dict())
    features = torch.randn(2, 16, 5, 7, device=DEVICE)
    expected, found = unit(features), ours(features)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.bases, unit.bases, rtol=1e-5, atol=1e-5)
    for output in (expected, found):
        output.square().sum().backward()
    gradients = {name: p.grad for name, p in unit.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-4)
