"""The paper's tables, ours beside the published."""

from emastudy.study.tables import (
    ablations,
    accuracy,
    audits,
    bases,
    counting,
    curves,
    photographs,
    robustness,
    variants,
)
from emastudy.study.tables.budget import (
    estimate,
    estimates_table,
)
from emastudy.study.tables.scaling import (
    measure_contexts,
)
from emastudy.study.tables.tables import (
    PAPER_RUNS,
    PUBLISHED,
    SUSTAINED_MACS,
    TABLE1_HEADS,
    margin,
    paper_scores,
    plan,
    rehearsal,
    table1,
)

__all__ = [
    "PAPER_RUNS",
    "PUBLISHED",
    "SUSTAINED_MACS",
    "TABLE1_HEADS",
    "ablations",
    "accuracy",
    "audits",
    "bases",
    "counting",
    "curves",
    "estimate",
    "estimates_table",
    "margin",
    "measure_contexts",
    "paper_scores",
    "photographs",
    "plan",
    "rehearsal",
    "robustness",
    "table1",
    "variants",
]
