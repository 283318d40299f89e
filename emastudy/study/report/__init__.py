"""What people read: the ledger in words, sentences and tables for pages, running the notebooks."""

from emastudy.study.report.includes import (
    book_pages,
    circumstances_table,
    estimates_table,
    findings_section,
    headline,
    write_includes,
)
from emastudy.study.report.inputs import (
    photograph,
    scene_images,
    scene_network,
    unit_features,
)
from emastudy.study.report.ledger import (
    MARKS,
    answer,
    badge,
    decided_here,
    ledger_overview,
    ledger_table,
    ledger_text,
    marks,
    not_run,
    of_page,
    sentence,
)
from emastudy.study.report.sentences import (
    best_other,
    duel,
    in_short,
    margin,
    table1_answer,
)

__all__ = [
    "MARKS",
    "answer",
    "badge",
    "best_other",
    "book_pages",
    "circumstances_table",
    "decided_here",
    "duel",
    "estimates_table",
    "findings_section",
    "headline",
    "in_short",
    "ledger_overview",
    "ledger_table",
    "ledger_text",
    "margin",
    "marks",
    "not_run",
    "of_page",
    "photograph",
    "scene_images",
    "scene_network",
    "sentence",
    "table1_answer",
    "unit_features",
    "write_includes",
]
