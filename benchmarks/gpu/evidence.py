"""Stage "evidence": the recipe ``animals``, six and twenty times as long, as records."""

import _thread
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu.place import TINY, Place, say
from emastudy.engine import RunConfig, Runtime
from emastudy.errors import InputError
from emastudy.study.recipes import METHODS, RECIPES
from emastudy.study.runs import run as run_all
from emastudy.study.runs.provenance import circumstances

#: Short names of ``recipes.METHODS`` and the share of the recipe's 500 iterations, in order of
#: worth: 3,000 and 10,000. "heads" is EMA with several.
GROUPS = (
    (("fcn", "ema_detached", "ema_unrolled", "non_local", "heads"), 6.0),
    (("deeplabv3", "a2"), 6.0),
    (("fcn", "ema_detached", "ema_unrolled", "non_local"), 20.0),
)
HEADS = {"heads": 4, "num_bases": 16}  # as many bases in all as EMA has
#: What a run that is told to stop needs for its checkpoint.
_TO_STOP = 45.0


def groups(seeds: int) -> Iterator[list[RunConfig]]:
    """The runs, group by group; in each seed by seed, so that a cut leaves whole comparisons."""
    for names, scale in GROUPS:
        yield [_config(name, seed, scale) for seed in range(seeds) for name in names]


def _config(name: str, seed: int, scale: float) -> RunConfig:
    animals = RECIPES["animals"]
    if name == "heads":
        return animals("ema", seed=seed, scale=scale, **HEADS)
    method = METHODS[name]
    return animals(method.head, seed=seed, scale=scale, **method.head_options(256))


def check(data_root: str, weights_path: str) -> None:
    """Raise InputError where photographs or weights are not there, or the commit is unknown."""
    for option, value in (("--data-root", data_root), ("--weights-path", weights_path)):
        if not value or not Path(value).exists():
            raise InputError(
                f"evidence reads {option}, which is {value!r} and not there; name it, or leave "
                "evidence out: --stages tests,kernels,waits,throughput"
            )
    if not circumstances("")["commit"]:
        raise InputError(
            "a record says which commit made it, and this copy has no .git: set EMASTUDY_COMMIT"
        )


def run(place: Place, data_root: str, weights_path: str, records: Path, side_by_side: int) -> None:
    """Make the records that are missing, as many as the time allows.

    Args:
        place: Where.
        data_root: Folder of VOC 2012.
        weights_path: ImageNet weights of MobileNetV2.
        records: Folder of the records.
        side_by_side: Runs that share the GPU, and the cores that load data for it.
    """
    cuda = place.device.type == "cuda"
    runtime = Runtime(
        data_root=str(Path(data_root).absolute()),
        weights_path=str(Path(weights_path).absolute()),
        runs_dir=str((place.out / "runs").absolute()),
        device="auto" if cuda else "cpu",
    )
    cards = f"gpus=[{','.join(['0'] * side_by_side)}]"  # the same one several times
    executor = f"local {cards}" if cuda else f"local cores={side_by_side}"
    torch.cuda.empty_cache()  # what earlier stages have left is the runs'
    tiny = place.sizes is TINY
    found = list(groups(place.sizes.seeds))
    if tiny:
        found = [[_shrunk(found[0][0])]]
    for number, configs in enumerate(found, 1):
        left = place.seconds_left - (0 if tiny else _TO_STOP)
        if left <= 0:
            return
        timer = threading.Timer(left, _thread.interrupt_main)  # as Ctrl-C would
        timer.start()
        try:
            done = run_all(configs, records, runtime, executor=executor)
            say(f"evidence, group {number}: {len(done)} of {len(configs)} runs are recorded")
        except KeyboardInterrupt:
            if place.seconds_left > _TO_STOP:
                raise  # a real one
            count = sum((records / f"{config.id}.json").exists() for config in configs)
            say(f"evidence, group {number}: {count} of {len(configs)} recorded; the time is up")
            return
        finally:
            timer.cancel()


def _shrunk(config: RunConfig) -> RunConfig:
    return dataclasses.replace(
        config, iterations=2, crop_size=33, batch_size=2, head_options={"channels": 8}
    )
