"""``emastudy claims``: the ledger."""

import tyro

from emastudy.errors import MissingFileError
from emastudy.study import claims, records_folder, report
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
    if not any(len(one.records) for one in evidence):
        raise MissingFileError(
            f"no run of {', '.join(one.name for one in evidence)} is recorded in "
            f"{records_folder()}, and the ledger is made of those: change into a checkout of the "
            "study, or name another folder of records as the profile"
        )
    print(report.ledger_text(claims.judge(evidence, ids), verbose=verbose))
