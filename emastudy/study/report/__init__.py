"""What people read: the ledger in words, sentences and tables for pages, running the notebooks."""

from emastudy.study.report import answers
from emastudy.study.report.inputs import (
    photograph,
    scene_images,
    scene_network,
    unit_features,
)
from emastudy.study.report.page import Page
from emastudy.study.report.predictions import Predictions, how_to_draw, map_pictures
from emastudy.study.report.report import (
    best_other,
    book_pages,
    circumstances_table,
    findings_section,
    headline,
    in_short,
    ledger_overview,
    ledger_table,
    ledger_text,
    method_names,
    write_includes,
)

__all__ = [
    "Page",
    "Predictions",
    "answers",
    "best_other",
    "book_pages",
    "circumstances_table",
    "findings_section",
    "headline",
    "how_to_draw",
    "in_short",
    "ledger_overview",
    "ledger_table",
    "ledger_text",
    "map_pictures",
    "method_names",
    "photograph",
    "scene_images",
    "scene_network",
    "unit_features",
    "write_includes",
]
