"""The paper's tables, ours beside the published: costs, budget, accuracy, test sets."""

from emastudy.study.tables.accuracy import gaps, table1_runs
from emastudy.study.tables.budget import SUSTAINED_MACS, estimate, plan
from emastudy.study.tables.costs import measure_contexts, table1
from emastudy.study.tables.test_sets import PUBLISHED, paper_scores, published_miou, rehearsal

__all__ = [
    "PUBLISHED",
    "SUSTAINED_MACS",
    "estimate",
    "gaps",
    "measure_contexts",
    "paper_scores",
    "plan",
    "published_miou",
    "rehearsal",
    "table1",
    "table1_runs",
]
