"""What safety costs a quick run, checkpoints and TensorBoard: ``python -m benchmarks.safety``.

A run of scenes, as long as in the profile ``quick`` and as in the recipe, is trained as it is, and
the time spent in writing is measured inside of it. So the share is exact even on a busy machine,
where two runs' times differ by more than it. At most 2 % should go to safety; runs are checkpointed
once a minute and at their end.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator

from benchmarks import results
from emastudy.engine import RunConfig, Runtime, checkpoints, train
from emastudy.study.recipes import scenes


def main() -> None:
    """Print a table for each length."""
    rows = [row for scale in (0.14, 1.0) for row in measure(scenes(scale=scale))]
    results.keep("safety", rows)


def measure(config: RunConfig) -> list[dict[str, Any]]:
    """Train a run, print where the time went and return it."""
    spent = {"checkpoints": 0.0, "TensorBoard": 0.0}
    calls = dict.fromkeys(spent, 0)

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                spent[name] += time.perf_counter() - began
                calls[name] += 1

        return wrapper

    patches = (
        mock.patch.object(checkpoints, "save", timed("checkpoints", checkpoints.save)),
        mock.patch.object(Accelerator, "log", timed("TensorBoard", Accelerator.log)),
    )
    with tempfile.TemporaryDirectory() as folder, patches[0], patches[1]:
        seconds = train(config, Runtime(runs_dir=folder, device="cpu")).seconds
    sys.stdout.write(
        f"{torch.get_num_threads()} threads, {config.iterations} iterations of {config.id}: "
        f"{seconds:.1f} s\n{'':<14}{'times':>8}{'s':>8}{'share':>8}\n"
    )
    for name in spent:
        share = spent[name] / seconds
        sys.stdout.write(f"{name:<14}{calls[name]:>8}{spent[name]:>8.2f}{share:>8.2%}\n")
    total = sum(spent.values()) / seconds
    sys.stdout.write(f"{'together':<30}{total:>8.2%}  (at most 2 % is wanted)\n")
    whole = {"run": config.id, "iterations": config.iterations, "run_seconds": seconds}
    return [{"what": n, "times": calls[n], "seconds": spent[n], **whole} for n in spent]


if __name__ == "__main__":
    main()
