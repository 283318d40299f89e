"""Findings as data: what an entry of ``experiments/findings.yaml`` is, and reading it."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from emastudy.errors import InputError
from emastudy.study.claims import CLAIMS
from emastudy.study.report.findings.forms import FORMS
from emastudy.study.report.findings.queries import Best, Comparison, Count
from emastudy.study.report.findings.verdicts import Verdicts

#: Of a sentence; a placeholder is one.
MOST_WORDS = 40
PLACEHOLDER = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
_DECIMAL = re.compile(r"\d\.\d")
Query = Comparison | Best | Count | Verdicts


@dataclass(frozen=True)
class Finding:
    """One sentence, and what fills it."""

    id: str  #: A short name.
    text: str  #: A placeholder in it is "{name}" or "{name.form}", see ``forms.FORMS``.
    page: int  #: Number of the notebook that shows it.
    numbers: Mapping[str, Query]  #: Placeholder → query.
    claim: str = ""  #: The paper's claim that it is about, e.g. "C17"; "" = none.
    primary: bool = False  #: Whether its tests are the ledger's.
    readme: int = 0  #: Its place in README; 0 = it stands in the book alone.

    def __post_init__(self) -> None:
        if self.claim and self.claim not in CLAIMS:
            raise self.error(f"there is no claim {self.claim!r}; there are {', '.join(CLAIMS)}")
        if (words := len(self.text.split())) > MOST_WORDS:
            raise self.error(f"its sentence has {words} words, of at most {MOST_WORDS}: split it")
        if typed := _DECIMAL.search(PLACEHOLDER.sub("", self.text)):
            raise self.error(f"its sentence has {typed[0]!r} typed; let a query fill it in")
        placeholders = PLACEHOLDER.findall(self.text)
        for name in sorted({name for name, _ in placeholders} ^ set(self.numbers)):
            fix = "its sentence does not show" if name in self.numbers else "no query fills"
            raise self.error(f"{fix} {{{name}}}")
        for name, form in placeholders:
            if form and form not in FORMS:
                raise self.error(f"{{{name}.{form}}} is no form; there are {', '.join(FORMS)}")
        for name, query in self.numbers.items():
            in_ledger = isinstance(query, Verdicts)
            if query.tested and in_ledger != self.primary:
                whose = "the ledger's" if in_ledger else "the page's own"
                raise self.error(
                    f"primary is {self.primary}, and the test of {{{name}}} is {whose}; primary "
                    "findings ask the ledger, all others do not"
                )

    def error(self, message: str) -> InputError:
        """An error that names the finding."""
        return InputError(f"finding {self.id!r}: {message}")


def load_findings(path: Path) -> list[Finding]:
    """The findings of ``findings.yaml``, checked as far as that goes without records.

    Raises:
        InputError: No YAML; an unknown key, claim, form or placeholder, a missing key, a sentence
            too long, a decimal that is typed, or two findings of one id.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    found: dict[str, Finding] = {}
    for entry in entries:
        about = f"{path.name}, finding {entry.get('id', len(found) + 1)!r}"
        numbers = {
            name: _make(_kind(query), query, f"{about}, {name}")
            for name, query in entry.get("numbers", {}).items()
        }
        finding = _make(Finding, {**entry, "numbers": numbers}, about)
        if finding.id in found:
            raise finding.error("there are two of this id")
        found[finding.id] = finding
    return list(found.values())


def _kind(query: Mapping[str, Any]) -> type[Query]:
    kinds: dict[str, type[Query]] = {"ledger": Verdicts, "best": Best, "count": Count}
    return next((kind for key, kind in kinds.items() if key in query), Comparison)


T = TypeVar("T", bound=Query | Finding)


def _make(kind: type[T], values: Mapping[str, Any], about: str) -> T:
    known = {field.name: field for field in fields(kind)}
    for key in values:
        if key not in known:
            raise InputError(f"{about}: unknown key {key!r}; there are {', '.join(known)}")
    for name, field in known.items():
        if name not in values and field.default is field.default_factory is MISSING:
            raise InputError(f"{about}: key {name!r} is missing")
    return kind(**values)
