"""What the paper claims, how each claim is decided, and what the records say of it."""

from emastudy.study.claims.claims import (
    CLAIMS,
    GRADIENTS,
    Claim,
    answer,
    decided_here,
    judge,
    ledger,
    load_evidence,
    of_page,
)
from emastudy.study.claims.evidence import (
    DATASETS,
    Evidence,
    Verdict,
)
from emastudy.study.claims.findings import (
    MARKS,
    Finding,
    badge,
    marks,
    not_run,
    sentence,
)

__all__ = [
    "CLAIMS",
    "DATASETS",
    "GRADIENTS",
    "MARKS",
    "Claim",
    "Evidence",
    "Finding",
    "Verdict",
    "answer",
    "badge",
    "decided_here",
    "judge",
    "ledger",
    "load_evidence",
    "marks",
    "not_run",
    "of_page",
    "sentence",
]
