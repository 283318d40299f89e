"""The set-up of a page: what the parameters of its notebook ask for, as one object."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import pandas as pd

from emastudy import options
from emastudy.em import Gradient
from emastudy.engine import RunConfig, Runtime
from emastudy.errors import InputError
from emastudy.options import PositiveFloat, PositiveInt
from emastudy.study.claims.evidence import DATASETS
from emastudy.study.figures.charts import use_style
from emastudy.study.measures import measure
from emastudy.study.recipes import grid, name_methods, recipe
from emastudy.study.runs import SweepError, records_folder, run, runs_folder

#: Profiles whose records are evidence of nothing; a notebook makes them as it runs.
PASSING = ("smoke", "quick")
#: Method → its runs, one a seed.
Methods = Mapping[str, Sequence[RunConfig]]


@dataclass(frozen=True)
class Page:
    """The runs of a page: which they are, where their records lie, what happens to missing ones.

    The fields are called as the parameters of notebooks are, so that a notebook is set up by
    ``page = Page.of(globals())``. Then ``page.run(page.grid(...))`` returns the page's runs, and
    the same calls on ``page.photographs()`` those on photographs.

    Raises:
        InputError: A field out of its range, or a gradient regime that there is not.
    """

    profile: str = "quick"  #: Folder of ``experiments/records`` that holds the runs.
    dataset: str = "scenes"  #: Recipe of ``emastudy.study.recipes``.
    backbone: str = ""  #: Another backbone than the recipe's; "" = the recipe's.
    gradients: str = "detached,unrolled"  #: Gradient regimes, separated by commas.
    seeds: PositiveInt = 1  #: Number of seeds, counted from 0.
    scale: PositiveFloat = 1.0  #: Share of the iterations that the recipe asks for.
    data_root: str = ""  #: Folder of the dataset; not needed by scenes.
    weights_path: str = ""  #: File with ImageNet weights; "" downloads them.
    #: Where missing runs are made, see ``runs.run``; "none" takes only what is recorded.
    executor: str = "local"
    device: Literal["auto", "cpu"] = "auto"  #: Where they compute.

    def __post_init__(self) -> None:
        options.check_types("", vars(self), Page)
        known = get_args(Gradient)
        if unknown := [regime for regime in self.regimes if regime not in known]:
            raise InputError(
                f"gradients is {self.gradients!r}, where {unknown[0]!r} is no regime; expected "
                f"some of {','.join(known)}"
            )

    @classmethod
    def of(cls, variables: Mapping[str, Any], **changes: Any) -> "Page":
        """The page of a notebook's ``globals()``, which from here on draws in the study's style."""
        use_style()
        names = {field.name for field in fields(cls)}
        # A notebook may have imported a module that is called like a parameter: em.gradients.
        given = {k: v for k, v in variables.items() if k in names and not isinstance(v, ModuleType)}
        # Parameters that are no fields, too, are what their notebook declares.
        options.check_values("", variables, variables.get("__annotations__", {}))
        return cls(**given | changes)

    @property
    def regimes(self) -> tuple[str, ...]:
        """The gradient regimes, in the order that was asked for."""
        return tuple(regime.strip() for regime in self.gradients.split(","))

    @property
    def folder(self) -> Path:
        """Where the records lie."""
        return records_folder(self.profile)

    @property
    def runtime(self) -> Runtime:
        """Where the runs happen."""
        return Runtime(
            data_root=self.data_root,
            weights_path=self.weights_path,
            runs_dir=str(runs_folder()),
            device=self.device,
        )

    @property
    def recipe(self) -> Callable[..., RunConfig]:
        """The page's recipe on the page's backbone, see ``recipes.recipe``."""
        return recipe(self.dataset, self.backbone)

    def grid(self, head: str = "ema", **axes: Iterable[Any]) -> list[RunConfig]:
        """Every combination of a head's options with every seed, see ``recipes.grid``."""
        return grid(
            self.dataset, head, seeds=self.seeds, scale=self.scale, backbone=self.backbone, **axes
        )

    def run(self, configs: Sequence[RunConfig]) -> pd.DataFrame:
        """Make what is missing of some runs, and return their records, see ``runs.run``."""
        return run(configs, self.folder, self.runtime, executor=self.executor)

    def measure(
        self, configs: Iterable[RunConfig], measurement: str, **options: Any
    ) -> pd.DataFrame:
        """Make what is missing of some measurements, and return them, see ``measures.measure``."""
        return measure(
            configs, measurement, self.folder, self.runtime, executor=self.executor, **options
        )

    def run_methods(self, methods: Methods) -> pd.DataFrame:
        """:meth:`run` for several methods, which the column "method" names."""
        return name_methods(self.run(_all_of(methods)), methods)

    def measure_methods(self, methods: Methods, measurement: str, **options: Any) -> pd.DataFrame:
        """:meth:`measure` for several methods, which the column "method" names."""
        return name_methods(self.measure(_all_of(methods), measurement, **options), methods)

    def recorded(
        self, configs: Sequence[RunConfig], measurement: str = "", **options: Any
    ) -> pd.DataFrame:
        """What is recorded of some runs, or was measured of them; where nothing is, no rows."""
        stored, absent = replace(self, executor="none"), self.missing(configs)
        there = [config for config in configs if config not in absent]
        try:
            if measurement:
                return stored.measure(there, measurement, **options)
            return stored.run(there)
        except SweepError:
            return pd.DataFrame()

    def recorded_methods(
        self, methods: Methods, measurement: str = "", **options: Any
    ) -> pd.DataFrame:
        """:meth:`recorded` for several methods, which the column "method" names."""
        return name_methods(self.recorded(_all_of(methods), measurement, **options), methods)

    def missing(self, configs: Iterable[RunConfig]) -> list[RunConfig]:
        """Those of some runs that have no record."""
        return [config for config in configs if not (self.folder / f"{config.id}.json").exists()]

    def has_checkpoint(self, config: RunConfig) -> bool:
        """Whether a run's network lies on this machine."""
        return any(self.runtime.run_dir(config).glob("checkpoint-*"))

    def at_full_length(self) -> "Page":
        """The page whose runs can answer its question: this one, or the committed records.

        The latter, under all gradient regimes, where this page's own runs are those of scenes and
        too short to decide anything. On other data, or another backbone, not every page has all of
        its runs on record.
        """
        if self.profile not in PASSING or self.dataset != "scenes" or self.backbone:
            return self
        full = replace(self.committed("scenes"), gradients=",".join(get_args(Gradient)))
        return full if any(full.folder.glob("*.json")) else self

    def how_made(self) -> str:
        """A paragraph of Markdown that says so of runs too short to decide anything; else ""."""
        if self.profile not in PASSING:
            return ""
        seeds = f"{self.seeds} seed{'s' * (self.seeds > 1)}"
        return (
            f"\n\n**This copy's own runs**, profile `{self.profile}`: {seeds}, "
            f"{100 * self.scale:.0f} % of the iterations. They show that everything works and "
            "decide nothing, and may point the other way than the findings above. What follows is "
            "of these runs unless it is said to be from the committed records; `make book "
            "PROFILE=scenes` shows the committed ones on every page."
        )

    def photographs(self) -> "Page":
        """The same page on photographs: the committed records of heads on frozen features."""
        return self.committed("animals_frozen")

    def committed(self, dataset: str, profile: str = "") -> "Page":
        """The same page on one of the ledger's data sets, by records alone, its own or others."""
        return replace(
            self,
            profile=profile or dataset,
            dataset=dataset,
            backbone="",
            seeds=DATASETS[dataset].recorded,
            scale=1.0,
            executor="none",
        )

    def elsewhere(self) -> dict[str, "Page"]:
        """The same page on the other data sets of the ledger, by what a reader calls them."""
        others = {name: data for name, data in DATASETS.items() if name != self.dataset}
        return {data.words: self.committed(name) for name, data in others.items()}


def _all_of(methods: Methods) -> list[RunConfig]:
    return [config for group in methods.values() for config in group]
