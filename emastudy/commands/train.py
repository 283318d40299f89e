"""``emastudy train``: one run."""

import dataclasses
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from emastudy import networks, options
from emastudy.commands import Pairs
from emastudy.engine import RunConfig, Runtime
from emastudy.engine.config import Option
from emastudy.engine.scoring import metrics
from emastudy.study import records_folder, run_one, runs_folder
from emastudy.study.recipes import RECIPES


@dataclass(frozen=True)
class Fields(RunConfig):
    """What is trained, and how."""

    # Without the config's tables of options, which are given as NAME=VALUE pairs instead.

    dataset_options: tyro.conf.Suppress[dict[str, Option]] = field(default_factory=dict)
    head_options: tyro.conf.Suppress[dict[str, Option]] = field(default_factory=dict)
    backbone_options: tyro.conf.Suppress[dict[str, Option]] = field(default_factory=dict)
    sources: tyro.conf.Suppress[dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing yet: a config is checked when it has its options, see ``Order.changed``."""


@dataclass(frozen=True)
class Order:
    """A recipe and what is changed of it."""

    config: Fields
    #: Where the run happens.
    runtime: Runtime = field(default=Runtime(runs_dir=""))
    #: Further options of the head, e.g. num_bases=32 gradient=one_step.
    head_options: Pairs = ()
    #: Further options of the backbone, e.g. deep_stem=true.
    backbone_options: Pairs = ()
    #: Further options of the dataset, e.g. noise=0.2.
    dataset_options: Pairs = ()
    #: Folder for the record; default records/command of a folder of one's own, and
    #: experiments/records/command of a checkout.
    records: str = ""
    #: The recipe's name.
    recipe: tyro.conf.Suppress[str] = ""

    def changed(self) -> RunConfig:
        """The config that was ordered, with the recipe's options for its head and its dataset."""
        make, config = RECIPES[self.recipe], self.config
        given = options.parse(self.head_options)
        networks.check_options("head", config.head, given, networks.head_defaults(config.head))
        usual = make(config.head, seed=config.seed, backbone=config.backbone)
        changed: dict[str, Any] = {
            name: {**getattr(usual, name), **options.parse(getattr(self, name))}
            for name in ("head_options", "backbone_options", "dataset_options")
        }
        if config.dataset != usual.dataset:  # VOC's classes, say, are none of other data
            changed["dataset_options"] = options.parse(self.dataset_options)
        if usual.start_from and config.start_from == make().start_from:
            # With another seed, head or option the run before is another, too.
            before = {"seed": config.seed, "backbone": config.backbone, **given}
            changed["start_from"] = make(config.head, **before).start_from
        return RunConfig(**{**vars(config), **changed})


def _recipes() -> Any:
    """A type for the command line: one subcommand for every recipe, with its values as defaults."""
    # Options of the head come last, when it is known which head it is.
    configs = {name: Fields(**{**vars(r()), "head_options": {}}) for name, r in RECIPES.items()}
    return tyro.extras.subcommand_type_from_defaults(
        {name: Order(config, recipe=name) for name, config in configs.items()},
        {name: inspect.getdoc(recipe) or "" for name, recipe in RECIPES.items()},
    )


def command(order: Annotated[Order, tyro.conf.arg(constructor=_recipes())]) -> None:
    """Train one run, score it and keep its record. Interrupted, it resumes where it stopped.

    For example: emastudy train scenes --seed 1 --head-options num_iterations=5 gradient=unrolled

    Args:
        order: The recipe to start from; every option replaces one of its fields.
    """
    config, runtime = order.changed(), order.runtime
    runtime = dataclasses.replace(runtime, runs_dir=runtime.runs_dir or str(runs_folder()))
    folder = Path(order.records or records_folder("command"))
    path = folder / f"{config.id}.json"
    before = path.stat().st_mtime_ns if path.is_file() else None
    record = run_one(config, folder, runtime)
    processes = torch.distributed
    if processes.is_available() and processes.is_initialized():
        processes.destroy_process_group()  # or its threads may abort the process as it ends
    if before is not None and before == path.stat().st_mtime_ns:
        print("trained before, nothing was done: change an option, or delete record and checkpoint")
    print(metrics.table(record.iou, record.metrics))
    print(f"record      {path}\ncheckpoint  {runtime.run_dir(config)}")
