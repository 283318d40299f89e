"""The one table of methods that are compared: what each is called, and what it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from emastudy import networks, own
from emastudy.engine import RunConfig

#: EMA's gradient regimes in the order of all tables, as readers call them: the released code's,
#: the paper's story, ours.
REGIMES = {"detached": "detached", "unrolled": "unrolled", "one_step": "one-step"}


@dataclass(frozen=True)
class Method:
    """A context module in one setting."""

    label: str
    head: str
    table1_row: str = ""  #: The row of the paper's Table 1 that it stands beside; "" = none.
    gradient: str = ""  #: EMA's regime; "" for the others.
    width: float = 1.0  #: Share of the usual channels that it works on.
    options: Mapping[str, Any] = field(default_factory=dict)  #: What else its head is asked for.

    @property
    def is_usual(self) -> bool:
        """Whether head and regime alone say what it is."""
        return self.width == 1 and not self.options

    def head_options(self, channels: int) -> dict[str, Any]:
        """Options of its head where the usual one has so many channels."""
        regime = {"gradient": self.gradient} if self.gradient else {}
        width = {"channels": round(self.width * channels)} if self.width != 1 else {}
        return {**regime, **width, **self.options}


#: The methods by a short name, in the order of all tables. EMA comes at the usual width and at half
#: of it, as in the paper's Table 1.
METHODS = {
    "fcn": Method("FCN", "fcn"),
    "non_local": Method("Non-local", "non_local"),
    "a2": Method("A²", "a2"),
    "pspnet": Method("PSPNet", "pspnet"),
    "deeplabv3": Method("DeepLabV3", "deeplabv3", "DeepLabV3"),
    "deeplabv3plus": Method("DeepLabV3+", "deeplabv3plus", "DeepLabV3+"),
    "psanet": Method("PSANet", "psanet", "PSANet"),
    "ema_detached": Method("EMA, detached", "ema", "EMANet (512)", "detached"),
    "ema_unrolled": Method("EMA, unrolled", "ema", "EMANet (512)", "unrolled"),
    "ema_one_step": Method("EMA, one-step", "ema", "EMANet (512)", "one_step"),
    "ema_half_detached": Method("EMA (half), detached", "ema", "EMANet (256)", "detached", 0.5),
    "ema_half_unrolled": Method("EMA (half), unrolled", "ema", "EMANet (256)", "unrolled", 0.5),
}
#: What came after EMA, likewise; the comparisons with the paper do without.
SUCCESSORS = {
    "criss_cross": Method("Criss-cross", "criss_cross"),
    "slots": Method("Slot attention", "slots"),
    "ocr": Method("OCR", "ocr"),
    "efficient": Method("Efficient attention", "efficient"),
    "nystrom": Method("Nyström", "nystrom"),
    "external": Method("External attention", "external"),
    "hamburger": Method("Hamburger", "hamburger"),
}
#: Controls: the same convolutions without attention, to see how much of a gain it is.
CONTROLS = {"no_attention": Method("1×1 convs alone", "no_attention")}
#: Methods whose batch norm starts at the other end: blocks of attention at one, EMA and the
#: control at zero.
STARTS = {
    f"{key}_other_start": replace(
        method,
        label=f"{method.label}, norm from {int(from_zero)}",
        table1_row="",
        options={"zero_init": not from_zero},
    )
    for key, method in (METHODS | SUCCESSORS | CONTROLS).items()
    if method.is_usual
    and (from_zero := networks.head_defaults(method.head).get("zero_init")) is not None
}
#: What EMA is held against in the paper's Table 1.
TABLE1_RIVALS = tuple(m for m in METHODS.values() if m.table1_row and m.head != "ema")


def label_runs(runs: pd.DataFrame) -> pd.Series:
    """What readers call each run's head, with its gradient regime; options do not count."""
    methods = [m for m in (METHODS | SUCCESSORS | CONTROLS).values() if m.is_usual]
    labels = {(m.head, m.gradient): m.label for m in methods}
    regimes = runs.get("head.gradient", pd.Series("", runs.index)).fillna("")
    kinds = zip(runs["head"], regimes, strict=True)
    return pd.Series(
        [labels.get((h, r), ", ".join(filter(None, (own.short(h), r)))) for h, r in kinds],
        runs.index,
    )


def name_methods(runs: pd.DataFrame, methods: Mapping[str, Sequence[RunConfig]]) -> pd.DataFrame:
    """Those records or measurements that are of some methods, in their order, named by "method".

    Args:
        runs: With the runs' ids as index or as column "id"; an empty table stays as it is.
        methods: Label → configs, see ``tables.accuracy.table1_runs``.
    """
    if runs.empty:
        return runs
    names = {config.id: method for method, group in methods.items() for config in group}
    ids = runs["id"] if "id" in runs else runs.index.to_series()
    place = {method: number for number, method in enumerate(methods)}
    named = runs.assign(method=ids.map(names).to_numpy()).dropna(subset="method")
    return named.iloc[np.lexsort((named["seed"], named["method"].map(place)))]


def width(config: RunConfig) -> int:
    """Number of channels that a head's context module works on."""
    channels = {**networks.head_defaults(config.head), **config.head_options}["channels"]
    return int(str(channels))
