"""Every verdict of every kind of rule, on made-up records and measurements."""

import dataclasses
import functools
import hashlib
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study.conftest import make_record

from emastudy.engine import RunConfig
from emastudy.study import claims, judges_unit, report
from emastudy.study.claims import CLAIMS
from emastudy.study.evidence import Evidence
from emastudy.study.protocols import scenes
from emastudy.study.records import to_frame

SEEDS = range(5)
# What seeds have in common, much larger than what is compared: pairing must take it out.
SHARED_BY_SEED = np.array([0.0, 9.0, -7.0, 4.0, -12.0])
NOISE = np.array([0.3, -0.2, 0.1, -0.3, 0.1])


@functools.cache
def blank():
    return make_record(RunConfig())


def record(config, miou, curves=None):
    return dataclasses.replace(
        blank(),
        config=config,
        metrics={"miou": float(miou), "pixel_accuracy": 0.0},
        curves=curves or {},
    )


def runs(values):
    """{(head, options as pairs): mIoU a seed} as a table of records."""
    return to_frame(
        record(scenes(head, seed=seed, **dict(options)), value)
        for (head, options), column in values.items()
        for seed, value in enumerate(column)
    )


def scored(gains, noise=NOISE, seeds=5):
    """Runs whose mIoU is 50, what the seed shares, the gain, and a noise of their own."""
    return runs(
        {
            key: (50 + SHARED_BY_SEED + gain + noise * (-1) ** n)[:seeds]
            for n, (key, gain) in enumerate(gains.items())
        }
    )


def measured(rows):
    """[(config, values)] as a table of measurements."""
    rows = [
        {**record(config, 0).config.to_dict(), "id": config.id, **values} for config, values in rows
    ]
    return pd.DataFrame(rows).set_index("id")


def evidence(records=None, needed=5, **measurements):
    return Evidence(
        "scenes", scenes, needed, pd.DataFrame() if records is None else records, measurements
    )


def find(id, evidence, gradient="detached", variant=""):
    (found,) = [
        f for f in CLAIMS[id].findings([evidence]) if (f.gradient, f.variant) == (gradient, variant)
    ]
    return found


def ema(**options):
    return ("ema", tuple(options.items()))


def plain(head):
    return (head, ())


# --- the ledger itself --------------------------------------------------------------------------


def rows():
    return [
        f"| {c.id} | {c.statement} ({c.section}) | {c.measure} | {c.rule} |"
        for c in CLAIMS.values()
    ]


def test_the_rules_are_those_fixed_before_any_run():
    """Changing a claim or a rule after runs exist is what this study must not do."""
    assert list(CLAIMS) == [f"C{n}" for n in range(1, 20)]
    digest = hashlib.sha256("\n".join(rows()).encode()).hexdigest()
    assert digest == "793ed39ff6ccbf37bd6dfaaef6ec25cb3d7aeb2c0deda3a898e818270d3c04be"


def test_the_rules_are_those_written_down(paper_claims):
    assert rows() == paper_claims


@pytest.fixture
def cheap_costs(monkeypatch):
    methods = ["DeepLabV3", "DeepLabV3+", "PSANet", "EMANet (512)"]
    costs = pd.DataFrame({"gmacs": [6, 8, 5, 4], "mparams": [6, 8, 5, 4]}, methods)
    costs["kept_mib"] = [7.0, 8.0, 9.0, 4.0]
    monkeypatch.setattr(judges_unit, "_table1", lambda: costs)
    return costs


def test_without_evidence_only_identities_and_costs_are_decided(cheap_costs):
    found = claims.judge([evidence()])
    table = claims.ledger(found)
    assert list(table["claim"].unique()) == list(CLAIMS)
    decided = table[table["verdict"] != "not run"]
    assert set(decided["claim"]) == {"C2", "C3", "C4", "C7"}
    assert (table[table["verdict"] == "not run"]["missing"] != "").all()


# --- the paired rule ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "noise", "seeds", "verdict"),
    [
        (2.0, NOISE, 5, "supported"),
        (-2.0, NOISE, 5, "contradicted"),
        (0.0, NOISE, 5, "undecided"),
        (2.0, 10 * NOISE, 5, "undecided"),
        (2.0, NOISE, 4, "not run"),
    ],
)
def test_the_paired_rule(gain, noise, seeds, verdict):
    key = ema(gradient="unrolled")
    frame = scored({key: gain, plain("non_local"): 0, plain("a2"): -1e-9}, noise, seeds)
    found = find("C17", evidence(frame), "unrolled")
    if verdict == "not run":
        assert found.verdict == "not run"
        assert found.missing.count("4 of 5 seeds") == 3
        assert find("C17", evidence(frame, needed=3), "unrolled").verdict == "supported"
        return
    against = found.parts[0]
    assert against.verdict == verdict
    ours, theirs = (frame[frame["head"] == head]["miou"] for head in ("ema", "non_local"))
    interval = stats.ttest_rel(ours.to_numpy(), theirs.to_numpy()).confidence_interval(0.95)
    assert against.interval == pytest.approx((interval.low, interval.high))
    assert against.interval[0] < against.bootstrap[0] < against.effect < against.bootstrap[1]
    assert against.seeds == 5


def test_only_runs_of_the_very_recipe_are_evidence():
    right = {ema(): 2.0, plain("non_local"): 0.0, plain("a2"): 0.0}
    assert find("C17", evidence(scored(right))).verdict == "supported"
    for changed in ({"learning_rate": 0.01}, {"iterations": 299}, {"head_options": {}}):
        frame = scored(right)
        frame = to_frame(
            dataclasses.replace(r, config=dataclasses.replace(r.config, **changed))
            if r.config.head == "ema"
            else r
            for r in frame["record"]
        )
        found = find("C17", evidence(frame))
        assert found.verdict == "not run", changed
        assert "ema gradient=detached: 0 of 5 seeds" in found.missing


def test_seeds_that_do_not_match_are_named():
    frame = scored({ema(): 2.0, plain("non_local"): 0.0, plain("a2"): 0.0})
    late = [
        dataclasses.replace(r, config=dataclasses.replace(r.config, seed=r.config.seed + 3))
        for r in frame[frame["head"] == "a2"]["record"]
    ]
    found = find("C17", evidence(to_frame([*frame[frame["head"] != "a2"]["record"], *late])))
    assert found.missing == "only 2 of 5 seeds in common"


# --- all parts, any part ------------------------------------------------------------------------


def test_all_parts_must_hold_and_one_can_refute():
    both = {ema(): 2.0, ema(maintenance="fixed"): 0.0}
    back = ema(gradient="unrolled", maintenance="learned")
    assert find("C9", evidence(scored(both))).verdict == "not run"
    assert find("C9", evidence(scored({**both, back: 0.0}))).verdict == "supported"
    found = find("C9", evidence(scored({**both, back: 4.0})))
    assert found.verdict == "contradicted"
    assert found.decisive.what == "moving average less back-propagation (unrolled)"
    # One refuted part decides, whatever else is missing.
    worse = {ema(): 0.0, ema(maintenance="fixed"): 2.0}
    assert find("C9", evidence(scored(worse))).verdict == "contradicted"


def test_the_weakest_support_is_shown():
    frame = scored({ema(): 5.0, plain("non_local"): 0.0, plain("a2"): 3.0})
    assert find("C17", evidence(frame)).decisive.what == "EMA less A²"


@pytest.mark.parametrize(
    ("learned", "loss", "verdict"),
    [
        ([50, 51, 52, 53, 20], 1.0, "supported"),  # one below half of the average's mean
        ([50, 51, 52, 53, 54], float("nan"), "supported"),
        ([30, 70, 31, 69, 50], 1.0, "supported"),  # a spread some thirty times as large
        ([50.0, 50.0, 50.0, 50.0, 50.001], 1.0, "contradicted"),
        ([50, 51, 49, 50, 51], 1.0, "undecided"),
    ],
)
def test_back_propagation_is_unstable(learned, loss, verdict):
    average = [50.0, 51.0, 49.0, 50.5, 49.5]
    made = [record(scenes("ema", seed=s, gradient="unrolled"), average[s]) for s in SEEDS]
    made += [
        record(
            scenes("ema", seed=s, gradient="unrolled", maintenance="learned"),
            learned[s],
            {"loss": [(10, 1.0), (20, loss)], "bases_gradient": [(10, 1.0), (20, 3.0)]},
        )
        for s in SEEDS
    ]
    found = find("C10", evidence(to_frame(made)), "unrolled")
    assert found.verdict == verdict
    assert found.parts[2].effect == pytest.approx(1.5)
    few = find("C10", evidence(to_frame(made[:9])), "unrolled")
    assert few.verdict == "not run"
    assert few.missing == "ema gradient=unrolled maintenance=learned: 4 of 5 seeds"


# --- normalisation and iterations ---------------------------------------------------------------


def by_iterations(courses, counts):
    return {
        ema(normalization=name, num_iterations=t): course[t]
        for name, course in courses.items()
        for t in counts
    }


def test_l2_beats_both_at_three_and_four():
    better = dict.fromkeys((3, 4), 2.0)
    flat = dict.fromkeys((3, 4), 0.0)
    frame = scored(by_iterations({"l2": better, "none": flat, "layer": flat}, (3, 4)))
    assert find("C11", evidence(frame)).verdict == "supported"
    tie = {3: 2.0, 4: 0.0}
    frame = scored(by_iterations({"l2": tie, "none": flat, "layer": flat}, (3, 4)))
    assert find("C11", evidence(frame)).verdict == "undecided"
    frame = scored(by_iterations({"l2": better, "none": flat}, (3, 4)))
    assert find("C11", evidence(frame)).verdict == "not run"


@pytest.mark.parametrize(
    ("layer", "verdict"), [(-2.0, "supported"), (2.0, "contradicted"), (0.0, "undecided")]
)
def test_layer_norm_is_worse_on_the_mean_over_iterations(layer, verdict):
    counts = (1, 2, 3, 4)
    courses = {"none": dict.fromkeys(counts, 0.0), "layer": dict.fromkeys(counts, layer)}
    rng = np.random.default_rng(0)
    frame = scored(by_iterations(courses, counts))
    frame["miou"] += rng.normal(0, 0.5, len(frame))
    assert find("C12", evidence(frame)).verdict == verdict
    part = frame[~((frame["head.num_iterations"] == 2) & (frame["seed"] == 3))]
    assert find("C12", evidence(part)).verdict == "not run"


@pytest.mark.parametrize(
    ("l2", "none", "verdict"),
    [
        (1.0, 0.0, "supported"),
        (-1.0, 0.0, "contradicted"),
        (1.0, -1.0, "contradicted"),
        (0.0, 0.0, "undecided"),
    ],
)
def test_slopes_over_iterations(l2, none, verdict):
    counts = (1, 2, 3, 4)
    slopes = {"l2": l2, "none": none, "layer": 0.0}
    courses = {name: {t: slope * t for t in counts} for name, slope in slopes.items()}
    # Noise that tilts every seed by another amount, around zero.
    frame = scored(by_iterations(courses, counts), np.zeros(5))
    frame["miou"] += NOISE[frame["seed"]] * frame["head.num_iterations"]
    found = find("C13", evidence(frame))
    assert found.verdict == verdict
    one = frame[(frame["head.normalization"] == "l2") & (frame["seed"] == 2)]
    fitted = stats.linregress(one["head.num_iterations"], one["miou"]).slope
    assert fitted == pytest.approx(l2 + NOISE[2])
    assert found.parts[0].effect == pytest.approx(l2 + NOISE.mean())
    assert find("C13", evidence(frame[frame["seed"] > 0])).verdict == "not run"


@pytest.mark.parametrize(
    ("best", "verdict"), [(3, "supported"), (1, "contradicted"), (5, "contradicted")]
)
def test_the_peak_over_training_iterations(best, verdict):
    course = {t: -abs(t - best) * 2.0 for t in range(1, 9)}
    frame = scored(by_iterations({"l2": course}, range(1, 9)))
    found = find("C14", evidence(frame))
    assert found.verdict == verdict
    assert found.parts[0].effect == (5 if best == 3 else 0)
    short = find("C14", evidence(frame[frame["head.num_iterations"] < 8]))
    assert short.parts[0].verdict == "not run"


def scores(rows, images=200):
    """[(head, options, at, mIoU a seed)] as a table of scores."""
    usual = {"num_iterations": 0, "corruption": "", "severity": 0, "multi_scale": False}
    usual["split"] = "val"
    return measured(
        [
            (
                scenes(head, seed=seed, **options),
                {
                    **{f"at.{k}": v for k, v in {**usual, **at}.items()},
                    "images": images,
                    "miou": float(value),
                },
            )
            for head, options, at, column in rows
            for seed, value in enumerate(column)
        ]
    )


@pytest.mark.parametrize(
    ("course", "verdict"),
    [
        ([0, 4, 6, 7, 7.5, 7.7, 7.8, 7.82], "supported"),
        ([0, 4, 6, 7, 7.5, 7.7, 7.8, 9.0], "contradicted"),  # still rising at the end
        ([0, 4, 6, 3, 3.5, 3.7, 3.8, 3.8], "contradicted"),  # falls after 3
        ([0, 4, 6, 7, 7.5, 7.7, 7.65, 7.65], "undecided"),  # a fall within the noise
    ],
)
def test_more_iterations_at_test(course, verdict):
    wobble = 0.03 * np.array([1, -1, 1, -1, 0])
    table = [
        ("ema", {}, {"num_iterations": t}, 50 + SHARED_BY_SEED + value + (-1) ** t * wobble)
        for t, value in enumerate(course, 1)
        if t != 3
    ]
    three = runs({ema(): 50 + SHARED_BY_SEED + course[2] - wobble})  # as trained: the record
    found = find("C15", evidence(three, scores=scores(table)))
    assert found.verdict == verdict
    assert find("C15", evidence(three, scores=scores(table[:-1]))).verdict == "not run"


# --- measurements -------------------------------------------------------------------------------


def test_falls_of_the_likelihood_per_normalisation():
    def rows(name, falls, iterations=8, seeds=SEEDS):
        return [
            (
                scenes("ema", seed=seed, normalization=name),
                {"at.iterations": iterations, "images": 20, "falls": falls * (seed == 1)},
            )
            for seed in seeds
        ]

    table = measured([*rows("l2", 0), *rows("none", 3), *rows("layer", 0, seeds=range(4))])
    one = evidence(objective=table)
    assert find("C1", one, variant="l2").verdict == "supported"
    against = find("C1", one, variant="none")
    assert against.verdict == "contradicted"
    assert against.decisive.number == "3 of 100 images"
    assert find("C1", one, variant="layer").missing == "objective: 4 of 5 seeds"
    # Followed further, it falls: the longest course counts.
    longer = measured([*rows("l2", 1, 12), *rows("l2", 0, 4)])
    assert find("C1", evidence(objective=longer), variant="l2").verdict == "contradicted"


@pytest.mark.parametrize(
    ("largest", "effective", "verdict"),
    [
        (16, 5.0, "supported"),
        (17, 5.0, "contradicted"),
        (16, 15.0, "contradicted"),
        (16, 10.0, "undecided"),
    ],
)
def test_low_rank(largest, effective, verdict):
    table = measured(
        [
            (
                scenes("ema", seed=seed),
                {
                    "largest_rank_estimate": largest,
                    "num_bases": 16,
                    "effective_rank_x": 10.0 + NOISE[seed],
                    "effective_rank_estimate": effective,
                },
            )
            for seed in SEEDS
        ]
    )
    assert find("C5", evidence(rank=table)).verdict == verdict
    assert find("C5", evidence(rank=table.iloc[:4])).missing == "rank: 4 of 5 seeds"


@pytest.mark.parametrize(
    ("ema_falls", "verdict"), [(5.0, "supported"), (15.0, "contradicted"), (10.0, "undecided")]
)
def test_robustness_is_the_smaller_fall(ema_falls, verdict):
    falls = {"ema": ema_falls, "fcn": 10.0, "non_local": 0.0}
    table = []
    for n, (head, fall) in enumerate(falls.items()):
        clean = 50 + SHARED_BY_SEED + (-1) ** n * NOISE
        table.append((head, {}, {}, clean))
        for kind, severity in itertools.product(("noise", "blur", "contrast", "jpeg"), range(1, 6)):
            at = {"corruption": kind, "severity": severity}
            table.append((head, {}, at, 50 + SHARED_BY_SEED - fall * severity / 3))
    found = find("C6", evidence(scores=scores(table)))
    assert found.verdict == verdict  # non-local falls least and does not decide
    assert found.parts[1].verdict == "contradicted"
    assert found.parts[0].effect == pytest.approx(10.0 - ema_falls - 2 * NOISE.mean())
    if verdict == "supported":
        part = evidence(scores=scores(table[:-21] + table[-20:]))  # non-local's clean score
        assert [p.verdict for p in find("C6", part).parts] == ["supported", "not run"]


def test_scores_on_all_images_count_before_scores_on_some():
    some, every = ([("fcn", {}, {}, [miou])] for miou in (40.0, 50.0))
    for order in (1, -1):
        table = pd.concat([scores(every), scores(some, images=20)][::order])
        assert evidence(scores=table).scores("fcn").to_dict() == {0: 50.0}


def test_both_ways_of_scoring_must_agree():
    rivals = ("deeplabv3", "deeplabv3plus", "psanet")
    frame = scored({ema(): 2.0, **{plain(head): 0.0 for head in rivals}})
    many = {"multi_scale": True}

    def table(gain):
        return scores(
            [("ema", {}, many, 50 + SHARED_BY_SEED + gain + NOISE)]
            + [(head, {}, many, 50 + SHARED_BY_SEED) for head in rivals]
        )

    assert find("C16", evidence(frame)).verdict == "not run"
    assert find("C16", evidence(frame, scores=table(2.0))).verdict == "supported"
    assert find("C16", evidence(frame, scores=table(-2.0))).verdict == "contradicted"
    assert find("C16", evidence(frame, scores=table(0.0))).verdict == "undecided"


@pytest.mark.parametrize(
    ("course", "random", "shuffled", "verdict"),
    [
        ([0.2, 0.5, 0.9], 0.3, 0.1, "supported"),
        ([0.9, 0.5, 0.2], 0.1, 0.1, "contradicted"),
        ([0.2, 0.5, 0.9], 1.5, 0.1, "contradicted"),
        ([0.2, 0.5, 0.9], 0.3, 0.9, "undecided"),
    ],
)
def test_concepts(course, random, shuffled, verdict):
    table = measured(
        [
            (
                scenes("ema", seed=seed),
                {
                    "information": [v + 0.01 * NOISE[seed] * (n + 1) for n, v in enumerate(course)],
                    "random_bases": [0.0, 0.0, random],
                    "matched": course[-1] + 0.1 * NOISE[seed],
                    "shuffled": shuffled,
                },
            )
            for seed in SEEDS
        ]
    )
    assert find("C18", evidence(concepts=table)).verdict == verdict
    assert find("C18", evidence(concepts=table.iloc[1:])).verdict == "not run"


# --- no data set --------------------------------------------------------------------------------


def test_identities():
    (non_local,) = CLAIMS["C2"].findings([])
    assert non_local.verdict == "supported"
    verdicts = {f.variant: f.verdict for f in CLAIMS["C3"].findings([])}
    assert verdicts == {
        "θ = log softmax(ρ)": "supported",
        "θ linear, as in the block": "contradicted",
    }
    (directions,) = CLAIMS["C4"].findings([])
    assert directions.verdict == "supported"
    assert all(part.effect > 1 for part in directions.parts[1:])  # degrees, not rounding


def test_costs(cheap_costs):
    assert CLAIMS["C7"].findings([])[0].verdict == "supported"
    cheap_costs.loc["PSANet", "kept_mib"] = 3.9
    (found,) = CLAIMS["C7"].findings([])
    assert found.verdict == "contradicted"
    assert found.decisive.what.startswith("PSANet")


@pytest.mark.parametrize(
    ("power", "unit", "verdict"),
    [(1.0, 0.05, "supported"), (1.0, 0.2, "contradicted"), (2.0, 0.05, "contradicted")],
)
def test_overhead(power, unit, verdict):
    pixels = [1089, 2401, 4225, 9409]
    noise = [1.0, 1.01, 0.99, 1.0]
    row = {
        "pixels": pixels,
        "seconds": [1e-6 * n**power * e for n, e in zip(pixels, noise, strict=True)],
        "unit_seconds": unit,
        "network_seconds": 1.0,
    }
    timed = evidence(time=measured([(scenes("ema"), row)]))
    (found,) = CLAIMS["C8"].findings([evidence(), timed])
    assert found.parts[0].verdict == "supported"
    assert found.verdict == verdict


@pytest.mark.parametrize(("off", "verdict"), [(0.4, "supported"), (-0.6, "contradicted")])
def test_published_tables(off, verdict):
    table = []
    for dataset, split, miou in (
        ("voc2012", "test", 87.7),
        ("pascal_context", "val", 53.1),
        ("coco_stuff", "val", 39.9),
    ):
        config = RunConfig(dataset=dataset, head="emanet_released", backbone="resnet101")
        at = {"num_iterations": 0, "corruption": "", "severity": 0, "multi_scale": True}
        at["split"] = split
        table.append((config, {**{f"at.{k}": v for k, v in at.items()}, "miou": miou + off}))
    (found,) = CLAIMS["C19"].findings([evidence(scores=measured(table))])
    assert found.verdict == verdict
    assert CLAIMS["C19"].findings([evidence(scores=measured(table[1:]))])[0].verdict == (
        "not run" if off == 0.4 else "contradicted"
    )


# --- what people read ---------------------------------------------------------------------------


@pytest.fixture
def mixed():
    return evidence(scored({ema(): 5.0, plain("non_local"): 0.0, plain("a2"): 3.0}))


def test_the_answer_has_number_interval_seeds_data_set_and_verdict(mixed):
    text = claims.answer("C17", "C2", evidence=[mixed])
    assert text.startswith("**C17** (survey; the paper's Fig. 4 text): *EMA beats Non-local")
    assert re.search(
        r'<span class="verdict supported">supported</span> scenes, detached gradient: '
        r"EMA less A²: \+\d\.\d\d mIoU \[\+\d\.\d\d, \+\d\.\d\d\] "
        r"\(bootstrap \[\S+, \S+\]\), 5 seeds; the weakest of 2 parts",
        text,
    )
    assert "scenes, unrolled gradient (0 of 5 seeds); scenes, one-step gradient (0 of 5" in text
    assert "**C2**" in text
    with pytest.raises(ValueError, match="no claim 'C20'; there are C1, "):
        claims.answer("C20", evidence=[mixed])


def test_pages_name_their_claims():
    assert claims.of_page("21_bases_normalization") == ("C11", "C12", "C13")
    assert claims.decided_here("33_comparisons").count("*Supported if*: rule, each.") == 2
    with pytest.raises(ValueError, match="decided on page '99_none'"):
        claims.decided_here("99_none")


def test_the_table_has_a_row_a_claim_and_links_listed_pages_only(mixed, cheap_costs, root):
    table = report.ledger_table(claims.judge([mixed]), ["notebooks/14_relatives"])
    lines = [line for line in table.splitlines() if re.match(r"\| \[?C\d", line)]
    assert len(lines) == 19
    linked = [line for line in lines if "](notebooks/14_relatives.ipynb)" in line]
    assert [line[:6] for line in linked] == ["| [C2]", "| [C3]"]
    assert table.count(".ipynb") == 2
    assert all(line.count("|") == 4 for line in lines)
    # A word and a class of its own for every verdict, so that colour is never alone.
    style = (root / "book" / "_static" / "ledger.css").read_text()
    for verdict in ("supported", "contradicted", "undecided", "not run"):
        assert f".verdict.{verdict.replace(' ', '-')} " in style
        assert f">{verdict}</span>" in table


def test_the_text_is_aligned_and_verbose_shows_every_part(mixed):
    found = claims.judge([mixed], ["C17"])
    brief = report.ledger_text(found)
    assert brief.splitlines()[1].startswith(
        "     supported     scenes, detached gradient  EMA less"
    )
    assert "bootstrap" not in brief
    verbose = report.ledger_text(found, verbose=True)
    assert "supported if: rule, each" in verbose
    assert verbose.count("bootstrap") == 2


def test_evidence_is_read_from_a_profile(tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "half.yaml").write_text("profile: half\nscale: 0.5\n")
    config = scenes("fcn", scale=0.5)
    record(config, 40.0).write(tmp_path / "records" / "half")
    found = Evidence.load(tmp_path, "half")
    assert found.miou("fcn").to_dict() == {0: 40.0}
    assert found.needed == 5
    assert Evidence.load(tmp_path, "animals").needed == 3
    with pytest.raises(ValueError, match="no profile 'hlaf'; there are animals, "):
        Evidence.load(tmp_path, "hlaf")


def test_the_committed_records_are_judged(root):
    found = claims.judge(claims.load_evidence(root / "experiments"), ["C11", "C12", "C13"])
    assert {f.verdict for f in found if f.dataset == "scenes"} > {"not run"}
