"""Stage "kernels": EM alone, the whole unit, and what the card can do at best."""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.place import Place, Results, computing, reason, say
from benchmarks.units import (
    ITERATIONS,
    Transcription,
    TranscriptionMMSeg,
    transcribed,
    transcribed_mmseg,
)
from emastudy.em import gradients
from emastudy.engine import cost
from emastudy.networks import EMAU, NonLocal

try:
    from benchmarks import fused
except ModuleNotFoundError:  # Triton comes with torch on Linux alone
    fused = None  # type: ignore[assignment]

#: So that the N×N matrix is never stored.
_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
# Ways of a pass → what to call.
Ways = dict[str, Callable[[], object]]


class FusedEMAU(EMAU):
    """The unit around the fused kernel; conv1 runs on all pixels."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        learns = torch.is_grad_enabled() and self.gradient != "detached"
        with torch.set_grad_enabled(learns):
            x, start = self.em_input(features)
            estimate, end = fused.attend(
                x, start, self.num_iterations,
                concentration=self.concentration, gradient=self.gradient,
            )  # fmt: skip
        if self.training:
            self._maintain(end.detach(), features)
        estimate = F.relu(estimate.transpose(1, 2).reshape_as(features), inplace=True)
        return F.relu(features + self.norm(self.conv2(estimate)), inplace=True)


class NonLocalNeverStored(NonLocal):
    """The block with the kernels that store no N×N matrix, or none."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        with sdpa_kernel(_FUSED):
            return super().forward(features)


def run(place: Place) -> None:
    """Measure every case that has not been yet."""
    results = place.results("kernels")
    measure_limits(place, results)
    sizes = place.sizes
    for side, batch, precision in itertools.product(sizes.sides, sizes.batches, sizes.precisions):
        for part, ways_of in (("EM", em_alone), ("unit", unit)):
            name = f"{part}, {batch}×{side}×{side}, {precision}"
            if name in results:
                continue
            if place.over:
                return
            torch.manual_seed(0)
            with computing(precision):
                found = {
                    kind: compare(
                        ways,
                        place,
                        inputs,
                        graphs=kind == "inference",
                        reference="package" if part == "EM" else "",
                    )
                    for kind, ways, inputs in ways_of(batch, side, precision, place)
                }
            # Of EM alone: its products, and X read once and X̃ written once.
            count = batch * side**2 * sizes.channels
            least = {
                "macs": (2 * ITERATIONS + 1) * count * sizes.bases,
                "bytes": 2 * count * (2 if precision == "bf16" else 4),
            }
            results.keep(name, {"least": least, "passes": found})
            for kind, rows in found.items():
                say(f"{name}, {kind}: {_in_words(rows)}")


def measure_limits(place: Place, results: Results) -> None:
    """What the card does at best: multiply-adds a second of a large product, bytes a second."""
    for precision in place.sizes.precisions:
        name = f"limit, {precision}"
        if name not in results:
            with computing(precision):
                results.keep(name, {"macs_per_second": matmul_rate(precision, place)})
                say(f"{name}: {results[name]['macs_per_second'] / 1e12:.1f}·10¹² multiply-adds/s")
    if "limit, memory" not in results:
        source = torch.randn(place.sizes.copied, device=place.device)
        target = torch.empty_like(source)
        seconds = min(take_turns({"copy": batched(lambda: target.copy_(source), place)}, 5)["copy"])
        moved = 2 * source.numel() * source.element_size()
        results.keep("limit, memory", {"bytes_per_second": moved / seconds})
        say(f"limit, memory: {moved / seconds / 1e12:.2f}·10¹² bytes/s, read and written")


def matmul_rate(precision: str, place: Place) -> float:
    """Multiply-adds per second of the fastest of some large square products."""
    side = place.sizes.matrix
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, side, side, dtype=dtype, device=place.device)
    seconds = min(take_turns({"product": batched(lambda: a @ b, place)}, 5)["product"])
    return float(side**3 / seconds)


def em_alone(
    batch: int, side: int, precision: str, place: Place
) -> list[tuple[str, Ways, list[Tensor]]]:
    """T iterations and X̃, no convs: kind of pass, its ways, their inputs."""
    pixels, channels = side**2, place.sizes.channels
    x = torch.randn(batch, pixels, channels, device=place.device)
    start = F.normalize(torch.randn(place.sizes.bases, channels, device=place.device), dim=-1)
    # Half the channels, as in the non-local block, and one head.
    query, key, value = torch.randn(3, batch, 1, pixels, channels // 2, device=place.device)
    if precision == "bf16":
        x, query, key, value = (t.bfloat16() for t in (x, query, key, value))
    image = x.transpose(1, 2).contiguous()
    g = torch.randn_like(x)
    learning = [t.requires_grad_() for t in (x, image, query, key, value)]

    def package(regime: str) -> Callable[[], Tensor]:
        return lambda: gradients.reestimate(x, start, ITERATIONS, regime=regime)  # type: ignore[arg-type]

    def by_hand(iterate: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[], Tensor]:
        def way() -> Tensor:
            mu, z = iterate(image, start.T.expand(batch, -1, -1), ITERATIONS)
            return torch.bmm(mu, z.transpose(1, 2).to(mu.dtype))

        return way

    def in_triton(regime: Any) -> Callable[[], Tensor]:
        return lambda: fused.attend(x, start, ITERATIONS, gradient=regime)[0]

    def attention() -> Tensor:
        with sdpa_kernel(_FUSED):
            return F.scaled_dot_product_attention(query, key, value, scale=1.0)

    ways = {
        "inference": {
            "package": package("detached"),
            "released": by_hand(transcribed),
            "mmsegmentation": by_hand(transcribed_mmseg),
            "fused": in_triton("detached"),
            "non-local": attention,
        },
        "one_step": {"package": package("one_step"), "fused": in_triton("one_step")},
        "unrolled": {
            "package": package("unrolled"),
            "released": by_hand(transcribed),
            "mmsegmentation": by_hand(transcribed_mmseg),
            "fused": in_triton("unrolled"),
            "non-local": attention,
        },
    }
    learners = {"non-local": (query, key, value), "package": (x,), "fused": (x,)}
    outer = {"non-local": torch.randn_like(query), "package": g, "fused": g}

    def trained(way: str, forward: Callable[[], Tensor]) -> Callable[[], object]:
        learn, gradient = learners.get(way, (image,)), outer.get(way, g.transpose(1, 2))

        def call() -> object:
            with _autocast(precision, place):
                y = forward()
            return torch.autograd.grad(y, learn, gradient.to(y.dtype))

        return call

    passes = []
    for kind, forwards in ways.items():
        calls: Ways = {}
        for way, forward in forwards.items():
            if way == "fused" and fused is None:
                continue
            calls[way] = (
                _inferred(forward, precision, place)
                if kind == "inference"
                else trained(way, forward)
            )
        passes.append((kind, calls, [*learning, start]))
    return passes


def unit(
    batch: int, side: int, precision: str, place: Place
) -> list[tuple[str, Ways, list[Tensor]]]:
    """The unit and the non-local block: kind of pass, its ways, their inputs."""
    channels, bases = place.sizes.channels, place.sizes.bases
    ordinary, last = torch.contiguous_format, torch.channels_last
    detached = {
        "package": (EMAU, last),
        "package, NCHW": (EMAU, ordinary),
        "package, unfolded": (EMAU, last),
        "released": (Transcription, ordinary),
        "mmsegmentation": (TranscriptionMMSeg, ordinary),
        "fused": (FusedEMAU, last),
    }
    passes = []
    for kind in ("inference", "detached", "one_step", "unrolled"):
        gradient = "detached" if kind == "inference" else kind
        learns = gradient != "detached"  # the transcriptions are of code that does not
        made: dict[str, tuple[nn.Module, torch.memory_format]] = {
            way: (maker(channels, bases, ITERATIONS, gradient=gradient), layout)  # type: ignore[arg-type]
            for way, (maker, layout) in detached.items()
            if not (learns and way != "package" and way != "fused")
            and not (way == "fused" and fused is None)
        }
        if "package, unfolded" in made:
            made["package, unfolded"][0].fold = False
        made["non-local"] = NonLocalNeverStored(channels), last
        calls: Ways = {}
        inputs: list[Tensor] = []
        for way, (module, layout) in made.items():
            module.train(kind != "inference").to(place.device, memory_format=layout)
            x = torch.randn(batch, channels, side, side, device=place.device)
            x = x.to(memory_format=layout)
            if precision == "bf16":
                x = x.bfloat16()  # as the layer before it hands it over
            inputs += [x, *module.parameters(), *module.buffers()]
            if kind == "inference":
                calls[way] = _inferred(lambda m=module, x=x: m(x), precision, place)
            else:
                calls[way] = _trained(module, x.requires_grad_(), precision, place)
        passes.append((kind, calls, inputs))
    return passes


def compare(
    ways: Ways, place: Place, inputs: list[Tensor], *, graphs: bool, reference: str = ""
) -> dict[str, dict[str, Any]]:
    """Milliseconds (median, least, most) and MiB of ways that take turns, or why one fails.

    With ``graphs`` a GPU also replays each as a graph, which costs no launches. "deviation" is the
    relative distance of what a way returns from what ``reference`` does, where shapes agree.
    """
    rows: dict[str, dict[str, Any]] = {}
    calls: dict[str, Callable[[], float]] = {}
    expected = _first(ways[reference]()) if reference else None
    for way, call in ways.items():
        try:
            found = _first(call())  # compiles what is compiled when it is first called
            rows[way] = {"mib": cost.peak_bytes(call, *inputs) / 2**20}
            if expected is not None and found.shape == expected.shape:
                distance = (found.double() - expected).norm() / expected.double().norm()
                rows[way]["deviation"] = float(distance)
            del found
            calls[way] = batched(call, place)
            if graphs and place.device.type == "cuda":
                calls[f"{way}, graph"] = batched(_graphed(call), place)
        except Exception as error:  # of any library; the others are measured all the same
            failed = f"{way}, graph" if way in calls else way
            rows[failed] = {"error": reason(error)}
    for way, seconds in take_turns(calls, place.sizes.rounds).items():
        milliseconds = [1000 * s for s in seconds]
        rows[way] = rows.get(way, {}) | {
            "ms": statistics.median(milliseconds),
            "least": min(milliseconds),
            "most": max(milliseconds),
        }
    return rows


def _first(found: object) -> Tensor:
    """A result, or the first of the gradients that it is."""
    result: Tensor = found[0] if isinstance(found, tuple) else found  # type: ignore[assignment]
    return result.detach()


def take_turns(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The seconds that each call returns, round by round."""
    times: dict[str, list[float]] = {way: [] for way in calls}
    for _ in range(rounds):
        for way, call in calls.items():
            times[way].append(call())
    return times


def batched(call: Callable[[], object], place: Place) -> Callable[[], float]:
    """Seconds of a call: the mean of as many as take some milliseconds, waited for at the end."""
    count = 1
    if place.sizes.seconds:
        call()
        place.wait()
        began = time.perf_counter()
        call()
        place.wait()
        count = max(1, math.ceil(place.sizes.seconds / (time.perf_counter() - began)))

    def run() -> float:
        began = time.perf_counter()
        for _ in range(count):
            call()
        place.wait()
        return (time.perf_counter() - began) / count

    return run


def _graphed(call: Callable[[], object]) -> Callable[[], object]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def _inferred(forward: Callable[[], Tensor], precision: str, place: Place) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.no_grad(), _autocast(precision, place):
            return forward()

    return call


def _trained(module: nn.Module, x: Tensor, precision: str, place: Place) -> Callable[[], object]:
    learn = [x, *(p for p in module.parameters() if p.requires_grad)]
    outer: list[Tensor] = []

    def call() -> object:
        with _autocast(precision, place):
            y = module(x)
        if not outer:
            outer.append(torch.randn_like(y))
        return torch.autograd.grad(y, learn, outer[0])

    return call


def _autocast(precision: str, place: Place) -> torch.autocast:
    # Entered anew with every call: weights are then cast as often as in training.
    return torch.autocast(place.device.type, torch.bfloat16, enabled=precision == "bf16")


def _in_words(rows: dict[str, dict[str, Any]]) -> str:
    return "; ".join(
        f"{way} {row['ms']:.3f} ms" if "ms" in row else f"{way} failed ({row['error']})"
        for way, row in rows.items()
    )
