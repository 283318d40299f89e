"""How fast the EMA unit is: ``python -m benchmarks.units`` prints one table, in some minutes.

The unit, once with channels_last maps and once with ordinary ones, beside

* *transcription*: the same unit with Eqs 12-14 written down as bmm and softmax on (B, C, N), and
* *non-local*: the non-local block with the embedded Gaussian, C/2 channels inside.

Times are medians of runs that take turns, so that another load on the machine hits all alike.
"limit" is the time of the unit's multiply-adds alone, at the rate of this machine's best large
matrix product; "of limit" is the share of it that is reached.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emastudy.engine import cost
from emastudy.networks import EMAU, NonLocal

CHANNELS, BASES, ITERATIONS = 512, 64, 3
#: Images and side of the feature map; whether training is timed too.
CASES = ((4, 33, True), (4, 65, True), (1, 97, True), (1, 129, False))
REPEATS = 7


class Transcription(EMAU):
    """The unit with its equations written down as they stand in the paper."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x = self.conv1(features).flatten(2)
        mu = self.bases.T.expand(len(x), -1, -1)
        with torch.no_grad():
            for _ in range(self.num_iterations):
                z = torch.bmm(x.transpose(1, 2), mu).softmax(dim=2)
                mu = torch.bmm(x, z / (1e-6 + z.sum(dim=1, keepdim=True)))
                mu = mu / (1e-6 + mu.norm(dim=1, keepdim=True))
            estimate = torch.bmm(mu, z.transpose(1, 2)).view_as(features)
        if self.training:
            self._maintain(mu.transpose(1, 2))
        return F.relu(features + self.norm(self.conv2(F.relu(estimate))))


def main() -> None:
    """Print the table."""
    torch.manual_seed(0)
    rate = matmul_rate()
    _say(
        f"{torch.get_num_threads()} threads, C={CHANNELS}, K={BASES}, T={ITERATIONS}, float32; "
        f"matrix products reach {rate / 1e9:.0f} G multiply-adds/s"
    )
    head = f"{'maps':<12}{'pass':<10}{'module':<22}"
    _say(f"{head}{'ms':>9}{'ratio':>8}{'MiB':>8}{'limit ms':>10}{'of limit':>10}")
    for batch, side, trains in CASES:
        for training in (False, True) if trains else (False,):
            compare(batch, side, training, rate)


def compare(batch: int, side: int, training: bool, rate: float) -> None:
    """Print one row a module for maps of side² pixels."""
    unit = EMAU(CHANNELS, BASES, ITERATIONS)
    macs = batch * cost.measure(unit, (side, side), channels=CHANNELS).macs
    ordinary, channels_last = torch.contiguous_format, torch.channels_last
    modules: dict[str, tuple[nn.Module, torch.memory_format]] = {
        "EMAU": (EMAU(CHANNELS, BASES, ITERATIONS), channels_last),
        "EMAU, NCHW": (unit, ordinary),
        "transcription, NCHW": (Transcription(CHANNELS, BASES, ITERATIONS), ordinary),
        "non-local": (NonLocal(CHANNELS), channels_last),
    }
    runs = {}
    for name, (module, layout) in modules.items():
        module.train(training).to(memory_format=layout)
        x = torch.randn(batch, CHANNELS, side, side).to(memory_format=layout)
        runs[name] = _step(module, x) if training else _inference(module, x)
    times = {name: statistics.median(values) for name, values in take_turns(runs).items()}
    for name, run in runs.items():
        limit = f"{1000 * macs / rate:>10.1f}{macs / rate / times[name]:>10.0%}"
        _say(
            f"{f'{batch}×{side}×{side}':<12}{'training' if training else 'inference':<10}{name:<22}"
            f"{1000 * times[name]:>9.1f}{times[name] / times['EMAU']:>8.2f}"
            f"{cost.peak_bytes(run) / 2**20:>8.0f}"
            + (limit if name.startswith("EMAU") and not training else "")
        )


def take_turns(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of every call, in rounds; the first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: values[1:] for name, values in times.items()}


def matmul_rate(side: int = 1536) -> float:
    """Multiply-adds per second of the fastest of some large square products."""
    a, b = torch.randn(2, side, side)
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


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
