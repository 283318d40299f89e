"""Claims about cost: counted on the networks themselves, or measured."""

from collections.abc import Iterable, Sequence
from itertools import product

from emastudy.study.claims.claim import claim
from emastudy.study.claims.evidence import Evidence
from emastudy.study.claims.verdict import Judgement, Part, counted, holds, side
from emastudy.study.recipes import TABLE1_RIVALS
from emastudy.study.statistics import Fit, fit_exponent
from emastudy.study.tables import measure_contexts, table1


@claim(
    "C7",
    section="Table 1",
    statement="far lighter than the baselines",
    measure="FLOPs, parameters, memory",
    rule="EMANet(512) head below DeepLabV3, V3+ and PSANet in all three",
    page="32_table1_cost",
    scope="none",
)
def light() -> Iterable[Judgement]:
    """Counted on the networks themselves; memory is what training keeps of one image."""
    costs = table1().T
    units = {"gmacs": "GMACs", "mparams": "M parameters", "kept_mib": "MiB"}
    parts = []
    for rival, (column, unit) in product(TABLE1_RIVALS, units.items()):
        saved = float(costs[rival.table1_row][column] - costs["EMANet (512)"][column])
        what = f"{rival.label}'s head less EMANet (512)'s"
        parts.append(Part(what, holds(saved > 0), saved, unit=unit))
    yield Judgement(tuple(parts))


@claim(
    "C8",
    section="1, 4",
    statement="little overhead, cost linear in N",
    measure="measured time and memory against N",
    rule="exponent ≤ 1.1, unit ≤ 10 % of the R-101 network's time",
    page="32_table1_cost",
    scope="all",
)
def overhead(evidence: Sequence[Evidence]) -> Iterable[Judgement]:
    """Peak memory is the same on every machine and measured here; time was measured before."""
    contexts = measure_contexts((33, 49, 65), channels=128, repeats=1)
    ours = contexts[contexts["module"] == "EMA"]
    memory = _at_most("peak memory of the unit", fit_exponent(ours["N"], ours["peak_bytes"]), 1.1)
    timed = [table for one in evidence if len(table := one.table("time"))]
    if not timed:
        missing = "no stored measurement of time"
        yield Judgement((memory, Part("time of the unit", "not run", unit="", missing=missing)))
        return
    row = timed[0].iloc[-1]
    time = _at_most("time of the unit", fit_exponent(row["pixels"], row["seconds"]), 1.1)
    share = float(row["unit_seconds"] / row["network_seconds"])
    unit = "of the ResNet-101 network's time"
    small = counted("the unit's time", share <= 0.1, share, unit)
    yield Judgement((memory, time, small))


def _at_most(what: str, fit: Fit, limit: float) -> Part:
    interval = (fit.low, fit.high)
    verdict = "supported" if fit.high <= limit else side((limit - fit.high, limit - fit.low))
    return Part(what, verdict, fit.exponent, interval, unit="as exponent of N", signed=False)
