"""How fast EM attention is: ``python -m benchmarks.units`` prints two tables, in some minutes.

They are kept in ``benchmarks/results/units.json``, one row a line.

The first is of EM alone (T iterations and the re-estimate, no convs), in float32 and bfloat16:

* *em*: ``expectation_maximization`` and ``reconstruct`` on pixel-major features, and
* *transcription*: Eqs 12-14 written down as bmm and softmax on (B, C, N).

The second is of the whole unit, once with channels_last maps and once with ordinary ones, beside

* *unfolded*: the unit with its first conv applied to all pixels instead of the bases,
* *unrolled*: in training, the unit with the gradient through all iterations, not "detached",
* *transcription*: the unit around the same transcription, and
* *non-local*: the non-local block with the embedded Gaussian, C/2 channels inside.

Times are medians of runs that take turns, so that another load on the machine hits all alike.
"limit" is the time of the multiply-adds alone, at the rate of this machine's best large matrix
product in that precision; "of limit" is the share of it that is reached.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import results
from emastudy import em
from emastudy.engine import cost
from emastudy.networks import EMAU, NonLocal

CHANNELS, BASES, ITERATIONS = 512, 64, 3
#: Images and side of the feature map; whether training is timed too.
CASES = ((4, 33, True), (4, 65, True), (1, 97, True), (1, 129, False))
REPEATS = 7
Row = dict[str, Any]


def transcribed(x: Tensor, mu: Tensor, num_iterations: int) -> tuple[Tensor, Tensor]:
    """μ (B, C, K) and Z (B, N, K) from X (B, C, N), in the steps of the released code."""
    for _ in range(num_iterations):
        z = torch.bmm(x.transpose(1, 2), mu).softmax(dim=2)
        mu = torch.bmm(x, z / (1e-6 + z.sum(dim=1, keepdim=True)))
        mu = mu / (1e-6 + mu.norm(dim=1, keepdim=True))
    return mu, z


def transcribed_mmseg(x: Tensor, mu: Tensor, num_iterations: int) -> tuple[Tensor, Tensor]:
    """The same in the steps of mmsegmentation's EMA head."""
    for _ in range(num_iterations):
        z = torch.einsum("bcn,bck->bnk", x, mu).softmax(dim=2)
        mu = F.normalize(torch.einsum("bcn,bnk->bck", x, F.normalize(z, p=1, dim=1)), dim=1)
    return mu, z


class Transcription(EMAU):
    """The unit with its equations written down as they stand in the paper."""

    iterate = staticmethod(transcribed)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        with torch.no_grad():
            x = self.conv1(features).flatten(2)
            assert self.bases is not None
            mu, z = self.iterate(x, self.bases.T.expand(len(x), -1, -1), self.num_iterations)
            estimate = torch.bmm(mu, z.transpose(1, 2).to(mu.dtype)).view_as(features)
        if self.training:
            self._maintain(mu.transpose(1, 2), features)
        return F.relu(features + self.norm(self.conv2(F.relu(estimate))))


class TranscriptionMMSeg(Transcription):
    """The same as mmsegmentation writes it down."""

    iterate = staticmethod(transcribed_mmseg)


def main() -> None:
    """Print the tables."""
    torch.manual_seed(0)
    rates = {dtype: matmul_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
    reached = ", ".join(
        f"{rate / 1e9:.0f} G multiply-adds/s in {str(dtype)[6:]}" for dtype, rate in rates.items()
    )
    _say(
        f"{torch.get_num_threads()} threads, C={CHANNELS}, K={BASES}, T={ITERATIONS}; "
        f"matrix products reach {reached}"
    )
    _say(f"\nEM alone\n{_head(['ms', 'ratio', 'limit ms', 'of limit'])}")
    rows = []
    for batch, side in ((1, 65), (4, 65), (1, 129)):
        rows += em_alone(batch, side, rates)
    _say(f"\nThe unit, float32\n{_head(['ms', 'ratio', 'MiB', 'limit ms', 'of limit'])}")
    for batch, side, trains in CASES:
        for training in (False, True) if trains else (False,):
            rows += compare(batch, side, training, rates[torch.float32])
    results.keep("units", rows)


def em_alone(batch: int, side: int, rates: dict[torch.dtype, float]) -> list[Row]:
    """Print and return one row a way of computing the iterations and X̃ for maps of side² pixels."""
    x = torch.randn(batch, side**2, CHANNELS)
    start = F.normalize(torch.randn(BASES, CHANNELS), dim=-1)
    channels_first, half = x.transpose(1, 2).contiguous(), x.bfloat16()

    def steps(x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, x.dtype == torch.bfloat16):
            found = em.expectation_maximization(x, start, ITERATIONS, trace=False)
            return em.reconstruct(found.responsibilities, found.bases)

    def transcription() -> Tensor:
        with torch.no_grad():
            mu, z = transcribed(channels_first, start.T.expand(batch, -1, -1), ITERATIONS)
            return torch.bmm(mu, z.transpose(1, 2))

    times = medians(
        {
            "em": lambda: steps(x),
            "em, bfloat16": lambda: steps(half),
            "transcription": transcription,
        },
        repeats=5 * REPEATS,
    )
    macs = (2 * ITERATIONS + 1) * x[..., 0].numel() * BASES * CHANNELS
    rows: list[Row] = []
    for name, seconds in times.items():
        limit = macs / rates[torch.bfloat16 if "bfloat16" in name else torch.float32]
        _say(
            f"{f'{batch}×{side}×{side}':<12}{'inference':<10}{name:<22}{1000 * seconds:>10.1f}"
            f"{seconds / times['em']:>10.2f}{1000 * limit:>10.1f}{limit / seconds:>10.0%}"
        )
        rows.append(_row("EM alone", batch, side, "inference", name, seconds, limit))
    return rows


def compare(batch: int, side: int, training: bool, rate: float) -> list[Row]:
    """Print and return one row a module for maps of side² pixels."""
    ordinary, channels_last = torch.contiguous_format, torch.channels_last
    modules: dict[str, tuple[nn.Module, torch.memory_format]] = {
        "EMAU": (EMAU(CHANNELS, BASES, ITERATIONS), channels_last),
        "EMAU, NCHW": (EMAU(CHANNELS, BASES, ITERATIONS), ordinary),
        "EMAU, unfolded": (EMAU(CHANNELS, BASES, ITERATIONS), channels_last),
        "transcription, NCHW": (Transcription(CHANNELS, BASES, ITERATIONS), ordinary),
        "non-local": (NonLocal(CHANNELS), channels_last),
    }
    modules["EMAU, unfolded"][0].fold = False
    if training:
        unrolled = EMAU(CHANNELS, BASES, ITERATIONS, gradient="unrolled")
        modules["EMAU, unrolled"] = (unrolled, channels_last)
    runs, macs, inputs = {}, {}, {}
    for name, (module, layout) in modules.items():
        folds = "unfolded" not in name
        macs[name] = cost.measure(module, (side, side), channels=CHANNELS, folded=folds).macs
        module.train(training).to(memory_format=layout)
        x = torch.randn(batch, CHANNELS, side, side).to(memory_format=layout)
        runs[name] = _step(module, x) if training else _inference(module, x)
        inputs[name] = [x, *module.parameters(), *module.buffers()]
    times = medians(runs)
    rows: list[Row] = []
    kind = "training" if training else "inference"
    for name, run in runs.items():
        limit = batch * macs[name] / rate
        share = f"{1000 * limit:>10.1f}{limit / times[name]:>10.0%}"
        peak = cost.peak_bytes(run, *inputs[name])
        _say(
            f"{f'{batch}×{side}×{side}':<12}{kind:<10}{name:<22}"
            f"{1000 * times[name]:>10.1f}{times[name] / times['EMAU']:>10.2f}{peak / 2**20:>10.0f}"
            + (share if name.startswith("EMAU") and not training else "")
        )
        rows.append(_row("unit", batch, side, kind, name, times[name], limit) | {"bytes": peak})
    return rows


def medians(runs: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Median seconds of every call that :func:`take_turns` timed."""
    times = take_turns(runs, repeats)
    return {name: statistics.median(values) for name, values in times.items()}


def take_turns(
    runs: dict[str, Callable[[], object]], repeats: int = REPEATS
) -> dict[str, list[float]]:
    """Seconds of every call, in rounds; the first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: values[1:] for name, values in times.items()}


def matmul_rate(dtype: torch.dtype, side: int = 1536) -> float:
    """Multiply-adds per second of the fastest of some large square products."""
    a, b = torch.randn(2, side, side, dtype=dtype)
    times = take_turns({"mm": lambda: a @ b})["mm"]
    return float(side**3 / min(times))


def _inference(module: nn.Module, x: Tensor) -> Callable[[], object]:
    def run() -> Tensor:
        with torch.no_grad():
            y: Tensor = module(x)
        return y

    return run


def _step(module: nn.Module, x: Tensor) -> Callable[[], object]:
    x.requires_grad_()

    def run() -> None:
        module.zero_grad()
        x.grad = None
        module(x).sum().backward()

    return run


def _row(
    table: str, batch: int, side: int, kind: str, way: str, seconds: float, limit: float
) -> Row:
    return {
        "table": table, "batch": batch, "side": side, "pass": kind, "way": way,
        "seconds": seconds, "limit_seconds": limit,
        "channels": CHANNELS, "bases": BASES, "iterations": ITERATIONS,
    }  # fmt: skip


def _head(columns: list[str]) -> str:
    return f"{'maps':<12}{'pass':<10}{'way':<22}" + "".join(f"{name:>10}" for name in columns)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
