"""What claims are judged by: a profile's runs, chosen exactly, and comparisons of them.

Floor: study (imports pandas and yaml).

A run is evidence only if its whole config is what a recipe makes of the named options: configs are
built through the recipe and their ids, which are hashes of everything, are looked up. So no run
that differs in a field nobody thought of can slip into a comparison.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from emastudy.engine import RunConfig
from emastudy.study.measures import load_measurements
from emastudy.study.recipes import PROTOCOLS
from emastudy.study.runs import load_records
from emastudy.study.statistics import bootstrap_interval, mean_interval

Verdict = Literal["supported", "contradicted", "undecided", "not run"]

#: Data sets that claims are judged on, each a recipe and a folder of records, as readers call them.
DATASETS = {
    "scenes": "scenes",
    "animals": "photographs",
    "animals_frozen": "photographs, frozen features",
}

_NAN = float("nan")
# The measurements that claims ask for.
_MEASUREMENTS = ("concepts", "objective", "rank", "scores", "time")
# A score as it stands in a record: T as trained, clean images, single scale.
_PLAIN = {"num_iterations": 0, "corruption": "", "severity": 0, "multi_scale": False}


@dataclass(frozen=True)
class Part:
    """One comparison or count behind a verdict.

    Attributes:
        what: What is compared, in words.
        verdict: What this part alone says of the claim.
        effect: The number. Differences are turned so that *positive* is what the paper claims.
        interval: Its 95 % interval (Student's, paired by seed, unless ``what`` says another);
            NaN where the number is a count or an identity.
        bootstrap: The percentile bootstrap of the same, for comparison only.
        seeds: Number of seeds that entered, or that are there of those ``needed``.
        unit: Of the effect.
        signed: Whether the effect is a difference, to be shown with its sign.
        missing: What is missing, where the verdict is "not run".
        needed: How many seeds there must be; 0 = the part is no matter of seeds.
        decides: Whether the rule asks for this part; others are shown beside.
    """

    what: str
    verdict: Verdict
    effect: float = _NAN
    interval: tuple[float, float] = (_NAN, _NAN)
    bootstrap: tuple[float, float] = (_NAN, _NAN)
    seeds: int = 0
    unit: str = "mIoU"
    signed: bool = True
    missing: str = ""
    needed: int = 0
    decides: bool = True

    @property
    def number(self) -> str:
        """The effect with its unit and interval, e.g. ``+1.20 mIoU [+0.41, +1.99]``."""
        if pd.isna(self.effect):
            return self.missing
        text = f"{self._format(self.effect)} {self.unit}".rstrip()
        return text if pd.isna(self.interval[0]) else f"{text} {self._brackets(self.interval)}"

    @property
    def resampled(self) -> str:
        """The bootstrap's interval in the same form; "" if there is none."""
        return "" if pd.isna(self.bootstrap[0]) else f"bootstrap {self._brackets(self.bootstrap)}"

    def _brackets(self, interval: tuple[float, float]) -> str:
        return f"[{', '.join(map(self._format, interval))}]"

    def _format(self, value: float) -> str:
        if not self.signed and float(value).is_integer():
            return f"{value:.0f}"
        if self.unit == "mIoU":
            return f"{value:+.2f}" if self.signed else f"{value:.2f}"
        return f"{value:+.3g}" if self.signed else f"{value:.3g}"


@dataclass(frozen=True)
class Evidence:
    """The runs of one profile, and how claims ask for them.

    Attributes:
        name: The profile.
        recipe: Makes the configs, e.g. ``protocols.scenes``; None if there is none by that name,
            and then nothing counts as run.
        needed: Seeds that a comparison must have.
        records: See ``records.load_records``.
        measurements: Name → table of ``measurements.load_measurements``, indexed by "id"; names
            of which there is none may be left out.
        scale: The profile's share of the recipe's iterations.
    """

    name: str
    recipe: Callable[..., RunConfig] | None
    needed: int
    records: pd.DataFrame
    measurements: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    scale: float = 1.0

    @classmethod
    def load(cls, experiments: Path, profile: str) -> "Evidence":
        """The committed evidence of a profile.

        Args:
            experiments: The folder of ``profiles/`` and ``records/``.
            profile: "scenes", "animals", "animals_frozen", or another file of ``profiles/``.

        Raises:
            ValueError: There is no such profile.
        """
        path = experiments / "profiles" / f"{profile}.yaml"
        if not path.is_file() and profile not in DATASETS:
            there = ", ".join(sorted({p.stem for p in path.parent.glob("*.yaml")} | set(DATASETS)))
            raise ValueError(f"there is no profile {profile!r}; there are {there}")
        settings = yaml.safe_load(path.read_text()) if path.is_file() else {}
        dataset = settings.get("dataset", profile if profile in DATASETS else "scenes")
        folder = experiments / "records" / profile
        tables = {name: load_measurements(folder, name) for name in _MEASUREMENTS}
        return cls(
            name=profile,
            recipe=PROTOCOLS.get(dataset),
            needed=5 if dataset == "scenes" else 3,
            records=load_records(folder),
            measurements={k: v.set_index("id") for k, v in tables.items() if len(v)},
            scale=settings.get("scale", 1.0),
        )

    def runs(self, head: str = "ema", **options: Any) -> pd.DataFrame:
        """The runs that are the recipe with these options of the head, one row a seed.

        Returns:
            Index "seed", ascending; the columns of ``records.load_records``.
        """
        return self._select(self.records, head, options)

    def miou(self, head: str = "ema", **options: Any) -> pd.Series:
        """Scores of those runs, mIoU in percent, single scale; named by what they are."""
        runs = self.runs(head, **options)
        values = runs["miou"] if len(runs) else pd.Series(dtype=float)
        return values.rename(_label(head, options))

    def measured(self, name: str, head: str = "ema", **options: Any) -> pd.DataFrame:
        """A measurement of those runs, one row a seed; the one with most iterations if several."""
        found = self.measurements.get(name, pd.DataFrame())
        if "at.iterations" in found:
            found = found.sort_values("at.iterations", kind="stable")
        return self._select(found, head, options)

    @property
    def image_counts(self) -> list[int]:
        """The numbers of images that networks were scored on apart from records, most first."""
        scores = self.measurements.get("scores", pd.DataFrame({"images": []}))
        return sorted(map(int, scores["images"].unique()), reverse=True)

    def scores(
        self, head: str, images: int, *, at: Mapping[str, Any] | None = None, **options: Any
    ) -> pd.Series:
        """Scores of those runs made another way: mIoU, percent.

        Args:
            head: Of the network.
            images: On how many. Scores on other numbers of images compare with nothing here.
            at: How: "num_iterations", "corruption", "severity", "multi_scale"; what is not named
                is as in a record (T as trained, clean, single scale).
            options: Of the head.
        """
        found = self.measurements.get("scores", pd.DataFrame())
        if len(found):
            fits = (found["at.split"] == found["eval_split"]) & (found["images"] == images)
            for option, value in {**_PLAIN, **(at or {})}.items():
                fits &= found[f"at.{option}"] == value
            found = found[fits]
        chosen = self._select(found, head, options)
        values = chosen["miou"] if len(chosen) else pd.Series(dtype=float)
        how = [f"{key}={value}" for key, value in (at or {}).items()]
        return values.rename(", ".join([_label(head, options), *how]))

    def _select(self, frame: pd.DataFrame, head: str, options: Mapping[str, Any]) -> pd.DataFrame:
        if self.recipe is None or frame.empty:
            return pd.DataFrame()
        ids = {
            _id(self.recipe, head, int(seed), self.scale, tuple(options.items()))
            for seed in frame["seed"].unique()
        }
        chosen = frame[frame.index.isin(ids)].set_index("seed").sort_index(kind="stable")
        return chosen[~chosen.index.duplicated(keep="last")]


def lacking(what: str, needed: int, *sides: pd.Series) -> Part | None:
    """The part that says what is missing for a comparison paired by seed; None if nothing is.

    Args:
        what: Is to be compared, in words.
        needed: Seeds that all sides must share.
        sides: One value a seed, indexed by seed; a series' name says which runs they are.
    """
    common = sides[0].index
    for side in sides[1:]:
        common = common.intersection(side.index)
    if len(common) >= needed:
        return None
    short = [f"{s.name}: {len(s)} of {needed} seeds" for s in sides if len(s) < needed]
    missing = "; ".join(short) or f"only {len(common)} of {needed} seeds in common"
    return Part(what, "not run", seeds=len(common), unit="", missing=missing, needed=needed)


def compare(what: str, better: pd.Series, worse: pd.Series, needed: int, **more: Any) -> Part:
    """The ledger's rule: the difference paired by seed, and where its 95 % interval lies.

    Args:
        what: In words.
        better: One value a seed, of what the paper says is higher.
        worse: The same of what it says is lower.
        needed: Seeds that both must have.
        more: Further fields of the part.

    Returns:
        Supported if the whole interval is above 0, contradicted if it is below, else undecided.
    """
    missing = lacking(what, needed, better, worse)
    if missing:
        return dataclasses.replace(missing, **more)
    return above_zero(what, (better - worse).dropna(), **more)


def above_zero(what: str, values: pd.Series, *, unit: str = "mIoU", **more: Any) -> Part:
    """Whether the mean of one value a seed lies above zero, by its 95 % interval."""
    mean, low, high = mean_interval(values)
    verdict: Verdict = "undecided"
    if low > 0:
        verdict = "supported"
    elif high < 0:
        verdict = "contradicted"
    boot = bootstrap_interval(values)
    return Part(what, verdict, mean, (low, high), boot, len(values), unit, **more)


# Asked again for every corruption, severity and regime.
@functools.cache
def _id(
    recipe: Callable[..., RunConfig],
    head: str,
    seed: int,
    scale: float,
    options: tuple[tuple[str, Any], ...],
) -> str:
    return recipe(head, seed=seed, scale=scale, **dict(options)).id


def _label(head: str, options: Mapping[str, Any]) -> str:
    return " ".join([head, *(f"{key}={value}" for key, value in options.items())])
