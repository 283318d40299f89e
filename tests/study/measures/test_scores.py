"""Scores under other circumstances than the record's."""

import pytest

from emastudy.study.measures import MEASURES, scores


def test_scores_make_a_row_of_every_combination(subject):
    rows = MEASURES["scores"](
        subject,
        iterations=[1, 2],
        corruptions=["", "noise"],
        severities=[1, 5],
        images=2,
    )
    seen = {(r["at.num_iterations"], r["at.corruption"], r["at.severity"]) for r in rows}
    assert seen == {(t, *c) for t in (1, 2) for c in (("", 0), ("noise", 1), ("noise", 5))}
    assert all(r["at.split"] == "val" and not r["at.multi_scale"] for r in rows)
    assert all(sum(map(sum, r["confusion"])) == 2 * 64 * 64 for r in rows)
    assert rows[0]["confusion"] != rows[-1]["confusion"]


def test_the_unit_keeps_its_number_of_iterations_whatever_happens(subject, monkeypatch):
    MEASURES["scores"](subject, iterations=[5], images=1)
    assert subject.unit.num_iterations == 2
    monkeypatch.setattr(scores, "score", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        MEASURES["scores"](subject, iterations=[5], images=1)
    assert subject.unit.num_iterations == 2
