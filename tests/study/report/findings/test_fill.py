"""Findings say what the records say, and no more than their corrected tests bear."""

import dataclasses

import numpy as np
import pytest
from study.made_up import NOISE, SHARED_BY_SEED, ema, plain, scored

from emastudy.errors import InputError
from emastudy.study.claims import Judgement, Part
from emastudy.study.report.findings import Comparison, Finding, Verdicts, fill, verdicts
from emastudy.study.statistics import benjamini_hochberg, equivalence, mean_interval, mean_test

REGIMES = ["detached", "unrolled", "one_step"]
AGAINST_FCN = Comparison("scenes", less={"head": "fcn"})


@pytest.fixture
def filled(tmp_path):
    """Fills sentences from made-up scores: gains, then findings."""

    def filled(gains, *findings):
        for record in scored(gains)["record"]:
            record.write(tmp_path / "records" / "scenes")
        return fill(findings, tmp_path)

    return filled


def about(text, page=33, **numbers):
    return Finding("it", text, page, numbers)


def test_a_difference_is_paired_by_seed_and_shown_with_its_interval(filled):
    (one,) = filled({ema(): 2.0, plain("fcn"): 0.0}, about("EMA has {gap}.", gap=AGAINST_FCN))
    mean, low, high = mean_interval(2.0 + 2 * NOISE)
    assert one.sentence == f"EMA has {mean:+.2f} [{low:+.2f}, {high:+.2f}]."
    assert one.tests[0].p == pytest.approx(mean_test(2.0 + 2 * NOISE))
    assert one.note == "5 seeds, q < 0.001"


def test_the_cases_of_a_query_are_told_apart_and_equal_ones_together(filled):
    gains = {ema(gradient=regime): gain for regime, gain in zip(REGIMES, (2, 3, 3), strict=True)}
    query = Comparison("scenes", less={"head": "fcn"}, each={"gradient": REGIMES}, decimals=0)
    text = "{gap.size} / {gap.range} / {gap.word} / {gap.count} / {gap.above}"
    (one,) = filled({**gains, plain("fcn"): 0.0}, about(text, gap=query))
    sizes, span, word, count, above = one.sentence.split(" / ")
    assert sizes == "2 (detached) and 3 (unrolled, one-step)"
    assert span == "2 to 3"
    assert (word, count, above) == ("decided", "decided in all 3 comparisons", "3 of 3")


def test_an_option_of_the_head_is_asked_of_ema_alone_and_a_side_overrides_the_case(filled):
    gains = {ema(num_bases=1): 4.0, ema(num_bases=8): 1.0, plain("fcn"): 0.0}
    queries = {
        "fcn": Comparison("scenes", less={"head": "fcn"}, each={"num_bases": [1, 8]}, decimals=0),
        "one": Comparison("scenes", {"num_bases": 1}, {}, each={"num_bases": [1, 8]}, decimals=0),
    }
    (one,) = filled(gains, about("{fcn.size}; {one.size}", **queries))
    # The case whose two sides are the same is none.
    assert one.sentence == "4 (K = 1) and 1 (K = 8); 3"


def test_a_number_without_another_side_is_a_mean_and_no_test(filled):
    (one,) = filled({ema(): 2.0}, about("{level.size}", level=Comparison("scenes", decimals=1)))
    assert one.sentence == f"{np.mean(52 + SHARED_BY_SEED + NOISE):.1f}"
    assert not one.tests


def test_the_tests_of_a_page_are_one_family_and_those_apart_another(filled):
    # Every other method has noise of the same sign, which a difference would not have.
    gains = {ema(): 2.0, plain("fcn"): 0.0, plain("psanet"): 0.0, plain("a2"): 1.9}
    gains |= {plain("pspnet"): 0.0, plain("non_local"): 1.7}
    rivals = [Comparison("scenes", less={"head": head}) for head in ("fcn", "a2", "non_local")]
    findings = [about("{gap}", gap=query) for query in rivals]
    here = [one.tests[0] for one in filled(gains, *findings)]
    p = [one.p for one in here]
    assert [one.corrected for one in here] == pytest.approx(list(benjamini_hochberg(p)))
    assert here[2].corrected > here[2].p
    elsewhere = about("{gap}", page=31, gap=rivals[2])
    apart = about("{gap}", gap=dataclasses.replace(rivals[2], apart=True))
    for lonely in (elsewhere, apart):
        *_, one = every = filled(gains, *findings, lonely)
        assert one.tests[0].corrected == one.tests[0].p
        mine = [len(other.of_the_page) for other in every if other.finding.page == 33]
        assert mine == [1, 1, 1, 0][: len(mine)]


def test_equivalence_has_its_own_test(filled):
    query = Comparison("scenes", less={"momentum": 0.0}, test="equivalence")
    gains = {ema(): 0.0, ema(momentum=0.0): 0.0}
    text = "The average is not needed: {gap.word}."
    (one,) = filled(gains, about(text, gap=query))
    assert one.tests[0].p == pytest.approx(equivalence(2 * NOISE).p)
    assert one.sentence == "The average is not needed: equivalent within ±0.5."
    with pytest.raises(InputError, match="says 'not needed', which its corrected tests do not"):
        filled({**gains, ema(): 2.0}, about(text, gap=query))
    difference = Comparison("scenes", less={"momentum": 0.0})
    with pytest.raises(InputError, match="says 'not needed'"):  # an interval that holds zero
        filled(gains, about(text.replace(".word", ""), gap=difference))


@pytest.mark.parametrize(
    ("text", "gain", "fits"),
    [
        ("EMA beats FCN by {gap.size}.", 2.0, True),
        ("EMA beats FCN by {gap}.", 0.1, False),
        ("EMA is decidedly ahead: {gap}.", 0.1, False),
        ("EMA is no better than FCN: {gap}.", 0.1, True),
        ("EMA has {gap} over FCN, inconclusive.", 0.1, True),
        ("EMA has {gap} over FCN, inconclusive.", 2.0, False),
        ("EMA has {gap} over FCN: {gap.word}.", 0.1, True),
        ("EMA beats FCN by {gap.size} and is equivalent to it.", 2.0, False),
        ("EMA scores {gap.size} more.", -2.0, False),
        ("FCN scores {gap} against EMA.", -2.0, True),
    ],
)
def test_words_are_held_to_the_corrected_tests(filled, text, gain, fits):
    gains = {ema(): gain, plain("fcn"): 0.0}
    if fits:
        assert filled(gains, about(text, gap=AGAINST_FCN))
    else:
        with pytest.raises(InputError, match="finding 'it'"):
            filled(gains, about(text, gap=AGAINST_FCN))


def test_a_result_without_a_test_is_no_result(filled):
    with pytest.raises(InputError, match="says 'beats'.* They are: none"):
        filled({ema(): 0.0}, about("EMA beats all: {x}.", x=Comparison("scenes")))


def test_every_finding_that_is_wrong_is_named_at_once(filled):
    wrong = [
        Finding("one", "{x}", 33, {"x": Comparison("scenes", {"head": "psanet"})}),
        Finding("two", "{x}", 33, {"x": Comparison("scenes", value="iou2")}),
        Finding("three", "{x}", 33, {"x": Comparison("scenes", seeds=9)}),
    ]
    with pytest.raises(InputError) as error:
        filled({ema(): 0.0}, *wrong)
    assert str(error.value).splitlines() == [
        "finding 'one': no record of scenes is of a run with head=psanet",
        "finding 'two': a record has no value 'iou2'",
        "finding 'three': 5 seeds are there of 9 that it needs",
    ]


def primary(text, **numbers):
    return Finding("it", text, 33, numbers, "C17", primary=True)


A2 = Verdicts("scenes", "C17", part="EMA less A²")


def test_primary_findings_say_what_the_ledger_says(filled):
    gains = {ema(): 5.0, plain("non_local"): 0.0, plain("a2"): 3.0}
    turned = Verdicts("scenes", "C17", part="EMA less A²", turned=True)
    plainly, other = filled(
        gains, primary("EMA beats A² by {gap.size}.", gap=A2), primary("{gap}", gap=turned)
    )
    assert plainly.sentence == "EMA beats A² by 2.00."
    assert plainly.note.startswith("C17, 5 seeds, p ")
    assert other.sentence.startswith("-2.00 [-2.")


def test_a_comparison_of_the_ledgers_bears_its_p_value_wherever_it_is_asked(filled):
    gains = {ema(): 5.0, plain("a2"): 3.0, plain("non_local"): 0.0}
    a2, ema_last = Comparison("scenes", less={"head": "a2"}), Comparison("scenes", {"head": "a2"})
    back = dataclasses.replace(ema_last, less={"head": "ema"})
    first, second, third = filled(
        gains, primary("{gap}", gap=A2), about("{gap}", gap=a2), about("{gap}", gap=back)
    )
    assert first.tests[0].by_ledger
    assert third.tests[0].by_ledger
    assert first.tests[0].corrected == second.tests[0].corrected == third.tests[0].corrected


def test_what_contradicts_a_claim_says_nothing_of_its_other_parts(filled):
    gains = {ema(): 0.0, plain("non_local"): 0.0, plain("fcn"): 0.0, plain("a2"): 3.0}
    non_local = Verdicts("scenes", "C17", part="EMA less Non-local")
    (one,) = filled(gains, primary("{a2.word}, {nl.word}", a2=A2, nl=non_local))
    assert one.sentence == "decided, inconclusive"


def test_a_verdict_that_is_not_there_is_named(filled):
    gains = {ema(): 0.0, plain("non_local"): 0.0, plain("a2"): 3.0}
    part, regime = (
        Verdicts("scenes", "C17", part="EMA less B"),
        Verdicts("scenes", "C17", ["one_step"]),
    )
    with pytest.raises(InputError) as error:
        filled(gains, primary("{x}", x=part), primary("{x}", x=regime))
    first, second = str(error.value).splitlines()
    assert "C17 has no part that begins 'EMA less B'; there are EMA less Non-local" in first
    assert "C17 was not run on scenes under one_step" in second


def test_each_part_of_a_verdict_that_needs_all_has_its_own_p_value():
    weak = Part("weak", "supported", 1.0, (0.1, 1.9), 5, p=0.02)
    strong = Part("strong", "supported", 3.0, (2.5, 3.5), 5, p=0.001)
    one = Judgement((weak, strong), dataset="scenes", adjusted=0.04)  # twice its own p, 0.02
    keys = [verdicts.comparison("scenes", part.effect, *part.interval) for part in one.parts]
    found = verdicts.tested([one])
    assert found[keys[0]] == 0.04  # the verdict's, which bounds those of its parts
    assert found[keys[1]] == pytest.approx(2 * 2 * 0.001)


def test_two_seeds_decide_nothing(tmp_path):
    for record in scored({ema(): 5.0, plain("fcn"): 0.0}, seeds=2)["record"]:
        record.write(tmp_path / "records" / "scenes")
    asked = dataclasses.replace(AGAINST_FCN, seeds=2)
    (one,) = fill([about("EMA has {gap}: {gap.word}.", gap=asked)], tmp_path)
    assert one.sentence.endswith("inconclusive.")


def test_a_test_beside_a_count_that_decides_is_corrected_with_its_page():
    count = Part("count", "contradicted")
    test = Part("test", "contradicted", -1.5, (-2.9, -0.1), 5, p=0.04)
    alone = Judgement((test,), dataset="scenes", adjusted=0.04)
    beside = Judgement((count, test), dataset="scenes")
    key = verdicts.comparison("scenes", -1.5, -2.9, -0.1)
    assert verdicts.tested([alone]) == {key: 0.04}
    assert verdicts.tested([beside]) == {}
