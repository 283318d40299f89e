"""Findings on a page: the first few in view, the others folded."""

import pytest

from emastudy.study.report.findings import Filled, Finding, found_here, render


@pytest.mark.parametrize(
    ("count", "folded"), [(4, ""), (5, "1 more finding"), (7, "3 more findings")]
)
def test_a_page_shows_four_findings_those_of_readme_first(monkeypatch, count, folded):
    findings = [
        Finding(f"n{place}", f"Sentence {place}.", 31, {}, readme=2 if place == count - 1 else 0)
        for place in range(count)
    ]
    monkeypatch.setattr(render, "committed", lambda _, page: [Filled(one, {}) for one in findings])
    shown, _, rest = found_here("31_photographs").partition("<details>")
    assert (
        shown.split()
        == f"- Sentence {count - 1}. - Sentence 0. - Sentence 1. - Sentence 2.".split()
    )
    assert rest.partition("</summary>")[0].removeprefix("<summary>") == folded
    assert all(f"Sentence {place}." in shown + rest for place in range(count))
