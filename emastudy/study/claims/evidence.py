"""What claims are judged by: a profile's runs, chosen exactly.

A run is evidence only if its whole config is what a recipe makes of the named options: configs are
built through the recipe and their ids, which are hashes of everything, are looked up. A run
that differs in any other field cannot slip into a comparison.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from emastudy.errors import InputError
from emastudy.study.measures import MEASURES, load_measurements
from emastudy.study.recipes import RECIPES, Recipe, recipe
from emastudy.study.runs import load_records, records_folder


@dataclass(frozen=True)
class DataSet:
    """A data set that claims are judged on."""

    words: str  #: Its name for readers.
    seeds: int  #: Seeds that a verdict needs.
    recorded: int  #: Seeds that its best recorded runs have; pages look for so many.


#: By the name of their recipe, which is also the name of the profile and folder of records.
DATASETS = {
    "scenes": DataSet("scenes", seeds=5, recorded=5),
    "animals": DataSet("photographs", seeds=3, recorded=5),
    "animals_frozen": DataSet("photographs, frozen features", seeds=3, recorded=8),
    "camvid_frozen": DataSet("CamVid, frozen features", seeds=5, recorded=5),
}
# A verdict on any other recipe, all of which are of photographs.
_SEEDS_OF_OTHERS = 3
# How a score in a record was made: T as trained, clean images, single scale, the run's own split.
_PLAIN = {
    "num_iterations": 0, "corruption": "", "severity": 0, "multi_scale": False,
    "split": "=eval_split",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Evidence:
    """The runs of one profile, and how claims ask for them; equal to itself alone."""

    name: str  #: The profile.
    recipe: Recipe  #: Makes the configs, e.g. ``recipes.scenes``.
    needed: int  #: Seeds that a comparison must have.
    records: pd.DataFrame  #: See ``runs.load_records``.
    #: Name → table of ``measures.load_measurements``, indexed by "id", where there is one.
    measurements: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    scale: float = 1.0  #: The profile's share of the recipe's iterations.
    gradient: str = ""  #: The regime of the EMA networks asked for; "" = as the recipe has it.
    _kept: dict[Any, tuple[pd.DataFrame, pd.DataFrame]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, experiments: Path, profile: str) -> "Evidence":
        """The committed evidence of a profile.

        Args:
            profile: One of ``DATASETS``, another file of ``profiles/``, or a recipe under whose
                name there are records.

        Raises:
            InputError: There is no such profile, or it names no recipe.
        """
        path, folder = experiments / f"profiles/{profile}.yaml", experiments / "records" / profile
        recorded = profile in RECIPES and any(folder.glob("*.json"))
        named_as_recipe = profile in DATASETS or recorded
        if not path.is_file() and not named_as_recipe:
            there = ", ".join(sorted({p.stem for p in path.parent.glob("*.yaml")} | set(DATASETS)))
            raise InputError(f"there is no profile {profile!r}; there are {there}")
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        name = settings.get("dataset", profile if named_as_recipe else "scenes")
        tables = {measure: load_measurements(folder, measure) for measure in MEASURES}
        return cls(
            name=profile,
            recipe=recipe(name),
            needed=DATASETS[name].seeds if name in DATASETS else _SEEDS_OF_OTHERS,
            records=load_records(folder),
            measurements={k: v.set_index("id") for k, v in tables.items() if len(v)},
            scale=settings.get("scale", 1.0),
        )

    def under(self, gradient: str) -> "Evidence":
        """The same, with the EMA networks of one gradient regime."""
        return dataclasses.replace(self, gradient=gradient)

    def runs(self, head: str = "ema", **options: Any) -> pd.DataFrame:
        """The runs that are the recipe with these options of the head, by seed, ascending."""
        return self.select(self.records, head, options)

    def miou(self, head: str = "ema", **options: Any) -> pd.Series:
        """Scores of those runs, mIoU in percent, single scale; named by what they are."""
        rows = self.select(self.records.filter(["seed", "miou"]), head, options)
        return self._miou(rows, self.label(head, **options))

    def table(self, measure: str) -> pd.DataFrame:
        """All rows of a measurement, whatever their runs; empty if it was never made.

        Raises:
            InputError: There is no such measure.
        """
        if measure not in MEASURES:
            raise InputError(f"there is no measure {measure!r}; there are {', '.join(MEASURES)}")
        return self.measurements.get(measure, pd.DataFrame())

    def measured(self, measure: str, **options: Any) -> pd.DataFrame:
        """A measurement of EMA's runs, one row a seed; the one with most iterations if several."""
        rows = self.table(measure)
        if "at.iterations" in rows:
            rows = rows.sort_values("at.iterations", kind="stable")
        return self.select(rows, "ema", options)

    @property
    def image_counts(self) -> list[int]:
        """The numbers of images that networks were scored on apart from records, most first."""
        scores = self.table("scores")
        return sorted({int(count) for count in scores.get("images", ())}, reverse=True)

    def scores(
        self, head: str = "ema", *, images: int, at: Mapping[str, Any] | None = None, **options: Any
    ) -> pd.Series:
        """Scores of those runs made another way: mIoU, percent.

        Args:
            images: On how many. Scores on other numbers of images compare with nothing here.
            at: How: "num_iterations", "corruption", "severity", "multi_scale"; the others are as
                in a record (T as trained, clean, single scale).
        """
        at = at or {}
        how = [f"{key}={value}" for key, value in at.items()]
        label = ", ".join([self.label(head, **options), *how])
        rows = self.scored(at, images).filter(["seed", "miou"])
        return self._miou(self.select(rows, head, options), label)

    def scored(self, at: Mapping[str, Any], images: int) -> pd.DataFrame:
        """All scores that were made in one way, whatever their runs, those on most images last.

        Args:
            at: As for :meth:`scores`, and "split"; "=COLUMN" is what the run has there.
            images: On how many; 0 = on any number.
        """
        rows, way = self.table("scores"), {**_PLAIN, **at}
        if rows.empty:
            return rows
        # Asked again for every head and regime. Of these rows: replaced measurements are others.
        of, made = self._kept.get(key := (images, *way.items()), (None, rows))
        if of is not rows:
            fits = (rows["images"] == images) | (images == 0)
            for name, value in way.items():
                own = isinstance(value, str) and value.startswith("=")
                fits &= rows[f"at.{name}"] == (rows[value[1:]] if own else value)
            made = rows[fits].sort_values("images", kind="stable")
            self._kept[key] = rows, made
        return made

    def label(self, head: str = "ema", **options: Any) -> str:
        """Those runs in words that a command line would take."""
        stated = self._with_regime(head, options)
        return " ".join([head, *(f"{key}={value}" for key, value in stated.items())])

    def _with_regime(self, head: str, options: Mapping[str, Any]) -> dict[str, Any]:
        regime = {"gradient": self.gradient} if head == "ema" and self.gradient else {}
        return {**regime, **options}

    def select(
        self,
        rows: pd.DataFrame,
        head: str,
        options: Mapping[str, Any],
        *,
        learning_rate: float = 1.0,
        fields: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Those of some rows that are of certain runs, one row a seed, the last if several.

        Args:
            rows: Records or measurements, indexed by the runs' ids.
            learning_rate: As a multiple of the recipe's.
            fields: Further fields of the config that are other than the recipe's.
        """
        if rows.empty:
            return pd.DataFrame()
        stated = tuple(self._with_regime(head, options).items())
        changed = learning_rate, tuple((fields or {}).items())
        ids = {
            _id(self.recipe, head, int(seed), self.scale, stated, *changed)
            for seed in rows["seed"].unique()
        }
        found = np.flatnonzero(rows.index.isin(ids))
        # Of pairs with the same seed a dict keeps the last. Rows are wide, and taken once.
        last = dict(sorted(zip(rows["seed"].iloc[found], found, strict=True)))
        return rows.iloc[list(last.values())].set_index("seed")

    @staticmethod
    def _miou(rows: pd.DataFrame, label: str) -> pd.Series:
        values = rows["miou"] if len(rows) else pd.Series(dtype=float)
        return values.rename(label)


def load_evidence(
    experiments: Path | None = None, profiles: Iterable[str] = tuple(DATASETS)
) -> list[Evidence]:
    """Records and measurements of profiles; default those that the ledger is judged on.

    Args:
        experiments: Folder of ``profiles/`` and ``records/``; default this checkout's.
        profiles: Names.

    Raises:
        InputError: There is no such profile.
    """
    folder = experiments or records_folder("").parent
    return [_loaded(folder, profile, _state(folder, profile)) for profile in profiles]


# A page asks several times; what was read counts until a file is another.
@functools.lru_cache(maxsize=16)
def _loaded(experiments: Path, profile: str, state: frozenset[Any]) -> Evidence:
    return Evidence.load(experiments, profile)


def _state(experiments: Path, profile: str) -> frozenset[Any]:
    """Names, times and sizes of the files that :meth:`Evidence.load` reads."""
    files = chain(
        (experiments / "profiles").glob(f"{profile}.yaml"),
        (experiments / "records" / profile).glob("*.json"),
        (experiments / "records" / profile / "measurements").glob("*.json"),
    )
    return frozenset((str(f), s.st_mtime_ns, s.st_size) for f in files if (s := f.stat()))


Pairs = tuple[tuple[str, Any], ...]


# Asked again for every corruption, severity and regime.
@functools.cache
def _id(
    recipe: Recipe, head: str, seed: int, scale: float, options: Pairs, rate: float, fields: Pairs
) -> str:
    config = recipe(head, seed=seed, scale=scale, **dict(options))
    learning_rate = rate * config.learning_rate
    return dataclasses.replace(config, learning_rate=learning_rate, **dict(fields)).id
