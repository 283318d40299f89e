"""``emastudy claims``: the ledger."""

import tyro

from emastudy.study import claims, report
from emastudy.study.runs import recorded_folder


def command(
    ids: tyro.conf.Positional[tuple[str, ...]] = (), profile: str = "", verbose: bool = False
) -> None:
    """Print the ledger: each claim of the paper and what the records say of it.

    For example: emastudy claims C11 C13 --verbose

    Args:
        ids: Claims to judge; default all.
        profile: Judge the records of this profile alone; default scenes and photographs.
        verbose: Show the rules, and the numbers and gaps behind every verdict.
    """
    recorded_folder()  # outside a checkout it says where records are looked for
    evidence = claims.load_evidence(profiles=[profile]) if profile else claims.load_evidence()
    print(report.ledger_text(claims.judge(evidence, ids), verbose=verbose))
