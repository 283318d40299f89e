"""``emastudy findings``: what was found, as README and the book say it."""

import tyro

from emastudy.errors import InputError
from emastudy.files import write_text
from emastudy.study.report import findings
from emastudy.study.report.includes import readme_with_findings
from emastudy.study.runs import experiments_folder


def command(page: tyro.conf.Positional[int] = 0, write: bool = False, check: bool = False) -> None:
    """Print what was found, from the committed records; or put it into README.

    The book's pages take it from there themselves, whenever they are made.

    For example: emastudy findings 31

    Args:
        page: Number of a notebook; 0 = all.
        write: Write the findings into README.md.
        check: Fail if README.md differs from what the records say, or a finding says more than its
            test bears.
    """
    experiments = experiments_folder()
    if not (write or check):
        print(findings.findings_text(findings.committed(experiments, page)))
        return
    readme = experiments.parent / "README.md"
    there = readme.read_text(encoding="utf-8")
    text = readme_with_findings(there, experiments)
    if text == there:
        return
    if check:
        raise InputError(f"{readme} differs from the records; run: emastudy findings --write")
    write_text(readme, text)
    print(f"written: {readme}")
