"""A sweep side by side against one run after the other: ``python -m benchmarks.sweeping``.

Eight runs of scenes, one core each, on two cores, both ways in the same kind of processes. The aim
is 0.6 of the sequential time or less; on cores that others use the ratio says little.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results
from emastudy.engine import Runtime
from emastudy.study import run
from emastudy.study.recipes import scenes

RUNS, AIM = 8, 0.6


def main() -> None:
    """Print both times and their ratio."""
    load = os.getloadavg()[0]
    configs = [scenes(seed=seed, scale=0.2) for seed in range(RUNS)]
    seconds = {}
    for cores in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            runtime = Runtime(runs_dir=folder, device="cpu")
            began = time.monotonic()
            run(configs, Path(folder) / "records", runtime, executor=f"local cores={cores}")
            seconds[cores] = time.monotonic() - began
    ratio = seconds[2] / seconds[1]
    sys.stdout.write(
        f"{RUNS} runs of scenes, one core each\n"
        f"one after the other {seconds[1]:>8.1f} s\n"
        f"two side by side    {seconds[2]:>8.1f} s\n"
        f"ratio               {ratio:>8.2f}   (aim: {AIM} or less)\n"
    )
    rows = [{"runs": RUNS, "cores": cores, "seconds": spent} for cores, spent in seconds.items()]
    results.keep("sweeping", rows)
    if load > 0.5:
        sys.stdout.write(f"The machine was busy (load {load:.1f} at the start): do not trust it.\n")


if __name__ == "__main__":
    main()
