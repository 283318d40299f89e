"""Findings are read with every slip named, before any record is."""

import pytest
import yaml

from emastudy.errors import InputError
from emastudy.study.report.findings import Best, Comparison, Count, Verdicts, load_findings

GAP = {"data": "scenes", "of": {}, "less": {"head": "fcn"}}
GOOD = {"id": "ahead", "text": "EMA has {gap}.", "page": 33, "numbers": {"gap": GAP}}


@pytest.fixture
def load(tmp_path):
    def load(*entries):
        path = tmp_path / "findings.yaml"
        path.write_text(yaml.safe_dump(list(entries)))
        return load_findings(path)

    return load


def test_an_entry_becomes_a_finding_with_its_queries(load):
    numbers = {
        "gap": GAP,
        "best": {"data": "scenes", "best": {"num_iterations": [1, 2]}},
        "far": {
            "data": "scenes",
            "measure": "start",
            "count": "growth > 1",
            "among": "members > 1",
        },
    }
    text = "{gap.size}, {best}, {far}: {gap.word}"
    (finding,) = load({**GOOD, "text": text, "numbers": numbers})
    assert finding.numbers["gap"] == Comparison("scenes", less={"head": "fcn"})
    assert isinstance(finding.numbers["best"], Best)
    assert isinstance(finding.numbers["far"], Count)
    ledger = {"gap": {"ledger": "C17", "data": "scenes"}}
    (finding,) = load({**GOOD, "primary": True, "numbers": ledger})
    assert finding.numbers == {"gap": Verdicts("scenes", "C17")}
    assert load({"id": "theory", "text": "Bases in one place stay there.", "page": 19})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pages": 3}, "finding 'ahead': unknown key 'pages'; there are id, text, page"),
        ({"numbers": {"gap": {**GAP, "than": 1}}}, "'ahead', gap: unknown key 'than'"),
        ({"numbers": {"gap": {"of": {}}}}, "'ahead', gap: key 'data' is missing"),
        ({"text": "EMA has {gap} and {lead}."}, "no query fills {lead}"),
        ({"text": "EMA leads."}, "its sentence does not show {gap}"),
        ({"text": "EMA has {gap.big}."}, "{gap.big} is no form; there are number, size"),
        ({"text": "EMA leads by 4.2, or {gap}."}, "has '4.2' typed"),
        ({"text": "word " * 40 + "{gap}"}, "has 41 words, of at most 40"),
        ({"claim": "C99"}, "there is no claim 'C99'; there are C1"),
        ({"primary": True}, "primary is True, and the test of {gap} is the page's own"),
        (
            {"numbers": {"gap": {"ledger": "C17", "data": "scenes"}}},
            "primary is False, and the test of {gap} is the ledger's",
        ),
        ({"numbers": {"gap": {"ledger": "C99", "data": "scenes"}}}, "there is no claim 'C99'"),
    ],
)
def test_a_slip_is_named_with_its_finding(load, change, message):
    with pytest.raises(InputError) as error:
        load({**GOOD, **change})
    assert message in str(error.value)


def test_what_lacks_and_what_is_there_twice_is_named(load):
    with pytest.raises(InputError, match="finding 'ahead': key 'page' is missing"):
        load({key: value for key, value in GOOD.items() if key != "page"})
    with pytest.raises(InputError, match="'ahead': there are two of this id"):
        load(GOOD, GOOD)


def test_what_is_no_yaml_is_named_with_its_line(tmp_path):
    path = tmp_path / "findings.yaml"
    path.write_text("- id: &same a\n- id: &same b\n")
    with pytest.raises(InputError, match=r"findings\.yaml is not YAML: .*anchor 'same'.*line 2"):
        load_findings(path)
