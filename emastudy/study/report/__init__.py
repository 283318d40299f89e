"""What people read: the ledger in words, sentences and tables for pages, running the notebooks."""

from emastudy.study.report import remarks
from emastudy.study.report.findings import found_here, found_in_short
from emastudy.study.report.includes import circumstances_table, leads_everywhere, write_includes
from emastudy.study.report.inputs import photograph, scene_images, scene_network, unit_features
from emastudy.study.report.ledger import answer, decided_here, ledger_text, of_page
from emastudy.study.report.page import Page
from emastudy.study.report.predictions import Predictions, how_to_draw, map_pictures
from emastudy.study.report.sentences import best_other, duels, in_short, margin, table1_answer

__all__ = [
    "Page",
    "Predictions",
    "answer",
    "best_other",
    "circumstances_table",
    "decided_here",
    "duels",
    "found_here",
    "found_in_short",
    "how_to_draw",
    "in_short",
    "leads_everywhere",
    "ledger_text",
    "map_pictures",
    "margin",
    "of_page",
    "photograph",
    "remarks",
    "scene_images",
    "scene_network",
    "table1_answer",
    "unit_features",
    "write_includes",
]
