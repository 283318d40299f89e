"""See :mod:`benchmarks.gpu`."""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.gpu import __doc__ as describes
from benchmarks.gpu import evidence, kernels, suite, training
from benchmarks.gpu.place import TINY, Place, Sizes, say

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages that were asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=describes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stages", default="tests,kernels,waits,throughput,evidence")
    parser.add_argument("--minutes", type=float, default=60.0, help="nothing begins after so many")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--tiny", action="store_true", help="everything small, on the CPU")
    parser.add_argument("--data-root", default="", help="folder of VOC 2012, for evidence")
    parser.add_argument("--weights-path", default="", help="of MobileNetV2, for evidence")
    parser.add_argument("--records", type=Path, help="default: experiments/records/animals_gpu")
    parser.add_argument("--side-by-side", type=int, default=4, help="runs that share the GPU")
    options = parser.parse_args(arguments)
    if not (options.tiny or torch.cuda.is_available()):
        parser.error("there is no CUDA device; --tiny runs everything on the CPU")
    usual = options.out if options.tiny else ROOT / "experiments"
    records = options.records or usual / "records" / "animals_gpu"
    place = Place(
        torch.device("cpu" if options.tiny else "cuda"),
        TINY if options.tiny else Sizes(),
        options.out,
        time.monotonic() + 60 * options.minutes,
    )
    stages: dict[str, Callable[[], None]] = {
        "tests": lambda: suite.run(place),
        "kernels": lambda: kernels.run(place),
        "waits": lambda: training.waits(place),
        "throughput": lambda: training.throughput(place),
        "evidence": lambda: evidence.run(
            place, options.data_root, options.weights_path, records, options.side_by_side
        ),
    }
    chosen = options.stages.split(",")
    if unknown := [stage for stage in chosen if stage not in stages]:
        parser.error(f"there is no stage {unknown[0]!r}; there are {', '.join(stages)}")
    if "evidence" in chosen:  # before hours of other work
        evidence.check(options.data_root, options.weights_path)
    for stage in chosen:
        if place.over:
            say(f"The time is up before {stage}; the same call goes on there.")
            return
        say(f"== {stage}")
        stages[stage]()


if __name__ == "__main__":
    main()
