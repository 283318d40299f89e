"""Findings: sentences whose numbers and words the records fill in and hold to.

``experiments/findings.yaml`` has one entry a finding: an id, a sentence of at most 40 words with
placeholders, the queries that fill them, the notebook that shows it, the claim that it is about,
and whether it is primary. Primary findings say what the ledger says, corrected by Holm's method
over the verdicts on one data set under one regime, and so do comparisons of others that decide such
a verdict. The rest was chosen after looking: those tests on one page are one family and carry
Benjamini and Hochberg's q-values.
"""

from emastudy.study.report.findings.fill import Filled, fill
from emastudy.study.report.findings.load import Finding, load_findings
from emastudy.study.report.findings.queries import Best, Comparison, Count, Number
from emastudy.study.report.findings.render import (
    all_findings,
    committed,
    findings_text,
    found_here,
    found_in_short,
    main_findings,
)
from emastudy.study.report.findings.verdicts import Verdicts

__all__ = [
    "Best",
    "Comparison",
    "Count",
    "Filled",
    "Finding",
    "Number",
    "Verdicts",
    "all_findings",
    "committed",
    "fill",
    "findings_text",
    "found_here",
    "found_in_short",
    "load_findings",
    "main_findings",
]
