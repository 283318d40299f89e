"""What the paper claims, how each claim is decided, and what the records say of it.

A claim's text, its rule and the code that decides it stand together under ``@claim``, in one file
for each kind of claim.
"""

# Importing them registers their claims.
from emastudy.study.claims import ablations, comparisons, cost, identities, unit  # noqa: F401
from emastudy.study.claims.claim import CLAIMS, Claim, claim, judge
from emastudy.study.claims.evidence import DATASETS, Evidence, load_evidence
from emastudy.study.claims.verdict import Judgement, Part, Verdict

__all__ = [
    "CLAIMS",
    "DATASETS",
    "Claim",
    "Evidence",
    "Judgement",
    "Part",
    "Verdict",
    "claim",
    "judge",
    "load_evidence",
]
