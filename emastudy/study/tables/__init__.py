"""The paper's tables, ours beside the published: costs, budget, accuracy, test sets."""

from emastudy.study.tables.accuracy import (
    beside_published,
    confusion,
    gaps,
    head_costs,
    per_class,
    published_gaps,
    table1_runs,
)
from emastudy.study.tables.budget import SUSTAINED_MACS, Estimate, estimate, plan
from emastudy.study.tables.costs import measure_contexts, table1, table1_heads
from emastudy.study.tables.test_sets import (
    PAPER_RUNS,
    PUBLISHED,
    paper_scores,
    published_miou,
    rehearsal,
)

__all__ = [
    "PAPER_RUNS",
    "PUBLISHED",
    "SUSTAINED_MACS",
    "Estimate",
    "beside_published",
    "confusion",
    "estimate",
    "gaps",
    "head_costs",
    "measure_contexts",
    "paper_scores",
    "per_class",
    "plan",
    "published_gaps",
    "published_miou",
    "rehearsal",
    "table1",
    "table1_heads",
    "table1_runs",
]
