"""The paper's tables and the pages', ours beside the published: data, no drawing."""

from emastudy.study.tables import (
    ablations,
    accuracy,
    audits,
    bases,
    counting,
    curves,
    photographs,
    robustness,
    theory,
    variants,
)
from emastudy.study.tables.accuracy import gaps, table1_runs
from emastudy.study.tables.budget import estimate, plan, sustained
from emastudy.study.tables.costs import measure_contexts, table1
from emastudy.study.tables.test_sets import PUBLISHED, paper_scores, published_miou, rehearsal

__all__ = [
    "PUBLISHED",
    "ablations",
    "accuracy",
    "audits",
    "bases",
    "counting",
    "curves",
    "estimate",
    "gaps",
    "measure_contexts",
    "paper_scores",
    "photographs",
    "plan",
    "published_miou",
    "rehearsal",
    "robustness",
    "sustained",
    "table1",
    "table1_runs",
    "theory",
    "variants",
]
