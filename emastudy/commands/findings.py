"""``emastudy findings``: what was found, as README and the book say it."""

import tyro

from emastudy.commands.common import say
from emastudy.errors import InputError
from emastudy.files import write_text
from emastudy.study.report import findings
from emastudy.study.report.includes import results_as_shown
from emastudy.study.runs import experiments_folder


def command(page: tyro.conf.Positional[int] = 0, write: bool = False, check: bool = False) -> None:
    """Print what was found, from the committed records; or put it into README and the book.

    For example: emastudy findings 31

    Args:
        page: Number of a notebook; 0 = all.
        write: Write the findings into README.md and the files that the book includes.
        check: Fail if these differ from what the records say.
    """
    experiments = experiments_folder()
    if not (write or check):
        say(findings.findings_text(findings.committed(experiments, page)))
        return
    for path, text in results_as_shown(experiments.parent).items():
        there = path.is_file()
        if there and path.read_text(encoding="utf-8") == text:
            continue
        if write:
            write_text(path, text)
            say(f"written: {path}")
        elif there:
            raise InputError(
                f"{path} differs from what the records say; run: emastudy findings --write"
            )
