"""The book's playground: its script computes what the package computes, and can be used."""

import json
import math
import re

import pytest
import torch
from torch.testing import assert_close

from emastudy import em
from emastudy.em.gradients import critical_concentration
from emastudy.engine.diagnostics import distinct_bases

NORMALIZATIONS = ("l2", "layer", "none", "gaussian")
# Nothing of the book's theme: the page must not need it.
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Playground</title>
<meta name="viewport" content="width=device-width"></head><body>{}</body></html>"""
FEATURES = "emaPlayground.features.map(row => Float64Array.from(row, v => v / 100))"


@pytest.fixture(scope="module")
def data(root):
    script = (root / "book" / "playground" / "cat.js").read_text()
    return json.loads(script.partition(" = ")[2].rstrip(";\n"))


@pytest.fixture(scope="module")
def x(data):
    return torch.tensor(data["features"], dtype=torch.float64) / 100


@pytest.fixture(scope="module")
def address(root, tmp_path_factory):
    """The raw part of the page, alone in a page of its own, beside its scripts."""
    folder = tmp_path_factory.mktemp("playground")
    for path in (root / "book" / "playground").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    text = (root / "book" / "playground.md").read_text()
    raw = text.split("```{raw} html\n")[1].split("```")[0]
    (folder / "page.html").write_text(PAGE.format(raw))
    return (folder / "page.html").as_uri()


@pytest.fixture
def open_page(browser, address):
    """Open the page; a script's error, a message on the console or a failed request fails."""
    contexts, problems = [], []

    def opened(**options):
        contexts.append(browser.new_context(**options))
        tab = contexts[-1].new_page()
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("console", lambda message: problems.append(message.text))
        tab.on("requestfailed", lambda request: problems.append(request.url))
        tab.goto(address)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def tab(open_page):
    return open_page(viewport={"width": 1280, "height": 900})


def set_concentration(tab, value):
    tab.fill("[name=concentration]", f"{round(math.log10(value) / 0.02) * 0.02 + 0:.2f}")
    tab.wait_for_function(
        "v => Math.abs(document.querySelector('.pg-lambda b').textContent / v - 1) < 0.1",
        arg=value,
    )


def run_to_the_end(tab):
    """Press Step with the keyboard until it has nothing left to do."""
    step = tab.locator("[name=step]")
    step.focus()
    while step.get_attribute("aria-disabled") == "false":
        tab.keyboard.press("Enter")


def said(tab):
    return tab.inner_text(".pg-text").replace("\u00a0", " ")


@pytest.mark.parametrize("start", ["random", "pixels"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_the_script_agrees_with_the_package(normalization, start, tab, x):
    for count, concentration, iterations in [(1, 1.0, 1), (5, 0.1, 7), (16, 0.3, 3), (16, 4.0, 12)]:
        theirs = tab.evaluate(
            f"""([count, lambda, iterations, normalization, start]) => {{
                const x = {FEATURES};
                const bases = ema.startingBases(x, count, normalization, start, 3);
                const run = ema.expectationMaximization(
                    x, bases, iterations, lambda, normalization);
                const plain = (rows) => rows.map((row) => [...row]);
                return {{
                    start: plain(bases), bases: plain(run.bases), objective: run.objective,
                    responsibilities: plain(run.responsibilities),
                    distinct: ema.distinctBases(run.bases),
                    critical: ema.criticalConcentration(x, normalization),
                }};
            }}""",
            [count, concentration, iterations, normalization, start],
        )
        first = x.new_tensor(theirs["start"])
        ours = em.expectation_maximization(
            x, first, iterations, concentration=concentration, normalization=normalization
        )
        close = {"rtol": 1e-8, "atol": 1e-8}
        assert_close(x.new_tensor(theirs["bases"]), ours.bases, **close)
        assert_close(x.new_tensor(theirs["responsibilities"]), ours.responsibilities, **close)
        assert_close(x.new_tensor(theirs["objective"]), ours.objective, **close)
        assert theirs["distinct"] == distinct_bases(ours.bases)
        critical = critical_concentration(x, normalization=normalization)
        assert_close(x.new_tensor(theirs["critical"]), critical, **close)
        assert_close(first, em.normalize(first, normalization), rtol=1e-3, atol=1e-3)


def test_a_seed_gives_its_start_and_another_seed_another(tab, x):
    starts = tab.evaluate(
        f"""() => [1, 1, 2].map((seed) =>
            ema.startingBases({FEATURES}, 16, "none", "pixels", seed).map((row) => [...row]))"""
    )
    one, again, other = (x.new_tensor(start) for start in starts)
    assert_close(one, again, rtol=0, atol=0)
    assert not torch.equal(one, other)
    assert all((x == basis).all(dim=1).any() for basis in one)


def test_below_the_mark_the_bases_merge(tab, x):
    """The page's first experiment."""
    critical = critical_concentration(x).item()
    run_to_the_end(tab)
    many = "16 bases point in [3-9] different directions; F rose at every step"
    assert re.search(many, said(tab)), said(tab)
    assert f"above this image’s critical value {critical:.2g}" in said(tab)
    mark = tab.locator(".pg-mark span").evaluate("e => e.getBoundingClientRect()")
    assert tab.inner_text(".pg-mark") == f"critical: {critical:.2g}"
    for start in ("pixels", "random"):
        tab.select_option("[name=start]", start)
        set_concentration(tab, 0.25 * critical)
        assert "After 10 iterations 16 bases point in one direction" in said(tab)
        assert "below" in said(tab)
    colors = tab.evaluate(
        """() => {const c = document.querySelector("canvas");
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        const pixels = Array.from({length: d.length / 4}, (_, n) => `${d.slice(4 * n, 4 * n + 4)}`);
        return new Set(pixels).size}"""
    )
    assert colors == 1, "merged bases have one colour"
    # The slider's thumb, put on the critical value, stands over the mark.
    slider = tab.locator("[name=concentration]").evaluate("e => e.getBoundingClientRect()")
    share = (math.log10(critical) + 2.3) / 3
    thumb = slider["left"] + 8 + share * (slider["width"] - 16)
    assert abs(mark["left"] + mark["width"] / 2 - thumb) < 2


@pytest.mark.parametrize("start", ["random", "pixels"])
def test_without_normalisation_the_objective_falls(start, tab):
    """The page's second experiment."""
    tab.select_option("[name=start]", start)
    run_to_the_end(tab)
    assert "F rose at every step" in said(tab)
    assert tab.locator(".pg-fall").count() == 0
    tab.select_option("[name=normalization]", "none")
    tab.wait_for_selector(".pg-fall")
    assert "F fell" in said(tab)
    tab.select_option("[name=normalization]", "gaussian")
    tab.wait_for_selector(".pg-fall", state="detached")
    assert "F rose" in said(tab)


def test_one_pixel_is_asked_by_mouse_and_by_keyboard(tab):
    """The page's third experiment."""
    run_to_the_end(tab)
    stage = tab.locator(".pg-stage")
    box = stage.bounding_box()
    tab.mouse.move(box["x"] + 0.41 * box["width"], box["y"] + 0.26 * box["height"])
    assert tab.inner_text(".pg-pixel").startswith("Pixel in row 9, column 21: basis ")
    tab.mouse.move(box["x"], box["y"] - 30)
    assert "mean over all pixels" in tab.inner_text(".pg-pixel")

    stage.focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft"):
        tab.keyboard.press(key)
    assert tab.inner_text(".pg-pixel").startswith("Pixel in row 16, column 24")
    shares = "[...document.querySelectorAll('.pg-bars i')].map(bar => parseFloat(bar.style.width))"
    set_concentration(tab, 5)
    assert max(tab.evaluate(shares)) > 90
    set_concentration(tab, 10**-2.3)
    assert tab.evaluate(shares) == pytest.approx([100 / 16] * 16, abs=0.5)
    stage.focus()
    tab.keyboard.press("Escape")
    assert "mean over all pixels" in tab.inner_text(".pg-pixel")


def test_a_basis_is_chosen_by_its_row_and_by_its_marker(tab):
    row = tab.locator(".pg-bars button").nth(4)
    row.focus()
    tab.keyboard.press("Enter")
    assert row.get_attribute("aria-pressed") == "true"
    alpha = """() => {const c = document.querySelector("canvas");
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        return [d[3], d[4 * 820 + 3], Math.max(...d.filter((_, i) => i % 4 < 3))]}"""
    first, middle, color = tab.evaluate(alpha)
    assert color == 0
    z = tab.evaluate(
        f"""() => {{const x = {FEATURES};
        const z = ema.responsibilities(x, ema.startingBases(x, 16, "l2", "random", 1), 1, "l2");
        return [z[0][4], z[820][4]]}}"""
    )
    assert [first, middle] == pytest.approx([225 * (1 - value) for value in z], abs=1)
    tab.locator(".pg-plane g.pg-faint").last.click(force=True)
    assert row.get_attribute("aria-pressed") == "false"
    assert tab.locator(".pg-bars button[aria-pressed=true]").count() == 1


def test_everything_is_reached_by_tab_and_has_a_name(tab):
    reached = []
    for _ in range(11 + 16):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate(
                """() => {const e = document.activeElement;
                return [e.name || e.className || "basis",
                    (e.labels?.[0] ?? e).textContent.trim() || e.getAttribute("aria-label")]}"""
            )
        )
    names = [name for name, _ in reached]
    controls = ["bases", "iterations", "concentration", "normalization", "start"]
    buttons = ["run", "step", "back", "seed"]
    assert names == [*controls, *buttons, "pg-stage", "colors", *["basis"] * 16]
    assert [name for name, label in reached if not label] == []
    tab.locator("[name=bases]").focus()
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_function("document.querySelector('[data-of=bases]').textContent === '15'")
    assert said(tab).startswith("At the start 15 bases")
    slider = tab.locator("[name=concentration]")
    assert slider.get_attribute("aria-valuetext") == "1, above the critical value 0.77"


def test_run_plays_to_the_end_and_can_be_paused(tab):
    tab.fill("[name=iterations]", "12")
    run = tab.locator("[name=run]")
    run.click()
    assert run.inner_text() == "Pause"
    assert tab.locator(".pg-text").get_attribute("aria-busy") == "true"
    tab.wait_for_function(
        "/^After ([2-9]|1.) /.test(document.querySelector('.pg-text').textContent)"
    )
    run.click()
    paused = said(tab)
    assert run.inner_text() == "Run"
    tab.wait_for_timeout(800)
    assert said(tab) == paused
    run.click()
    tab.wait_for_function("document.querySelector('[name=run]').textContent === 'Run'")
    assert said(tab).startswith("After 12 iterations")
    assert tab.locator(".pg-text").get_attribute("aria-busy") == "false"
    tab.click("[name=back]")
    assert said(tab).startswith("At the start 16 bases")


def test_a_step_before_a_longer_run_is_computed_is_harmless(tab):
    run_to_the_end(tab)
    tab.evaluate(
        """() => {const slider = document.querySelector("[name=iterations]");
        slider.value = 20;
        slider.dispatchEvent(new Event("input", {bubbles: true}));
        document.querySelector("[name=step]").click()}"""
    )
    tab.wait_for_function("document.querySelector('.pg-text').textContent.startsWith('After 20')")


def test_a_phone_scrolls_in_one_direction_and_answers_to_taps(open_page):
    tab = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    stage = tab.locator(".pg-stage")
    stage.scroll_into_view_if_needed()
    stage.tap(position={"x": 5, "y": 5})
    assert tab.inner_text(".pg-pixel").startswith("Pixel in row 1, column 1: basis ")
    small = tab.evaluate(
        "[...document.querySelectorAll('#ema-playground button')]"
        ".filter(b => b.getBoundingClientRect().height < 24).length"
    )
    assert small == 0, "a finger needs 24 pixels (WCAG 2.2)"


def test_without_javascript_the_page_says_what_it_would_show(browser, address):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(address)
    text = tab.inner_text("#ema-playground")
    assert "needs JavaScript" in text
    assert "each pixel in the colour" in text
    context.close()


def contrast(tab, selector):
    """WCAG's contrast of a text with the background that the page is given below."""
    channels = tab.locator(selector).first.evaluate(
        """e => {const c = getComputedStyle(e); return [c.color, getComputedStyle(document.body)
        .backgroundColor].map(s => s.match(/[\\d.]+/g).slice(0, 3).map(Number))}"""
    )
    light = []
    for color in channels:
        linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(light) / min(light)


@pytest.mark.parametrize(("theme", "paper"), [("light", "#fff"), ("dark", "#121212")])
def test_texts_stand_out_in_both_themes(theme, paper, tab):
    tab.evaluate(
        "([t, p]) => {document.documentElement.dataset.theme = t;"
        "document.body.style.background = p}",
        [theme, paper],
    )
    for selector in (".pg-text", "figcaption", ".pg-mark span", ".pg-pixel", ".pg-credit"):
        assert contrast(tab, selector) > 4.5, selector


def test_the_data_are_small_and_name_their_sources(data, root):
    path = root / "book" / "playground" / "cat.js"
    assert path.stat().st_size < 300_000
    assert len(data["features"]) == data["height"] * data["width"]
    assert "CC0" in data["credit"]
    assert "animals-ema" in data["origin"]


@pytest.mark.parametrize("name", ["em", "playground"])
def test_the_scripts_are_of_a_readable_length(name, root):
    lines = (root / "book" / "playground" / f"{name}.js").read_text().splitlines()
    assert len(lines) < 500
    assert max(map(len, lines)) <= 100


@pytest.mark.book
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_the_book_it_runs_in_both_themes(theme, width, built, browser, screenshots):
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.add_init_script(f"localStorage.mode = localStorage.theme = '{theme}'")
    tab = context.new_page()
    problems = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.goto((built / "playground.html").as_uri())
    tab.wait_for_selector(".pg-bars button")
    assert tab.locator("html").get_attribute("data-theme") == theme
    run_to_the_end(tab)
    assert said(tab).startswith("After 10 iterations 16 bases")
    assert tab.locator("article h1").first.inner_text().startswith("Playground")
    if width > 400:  # the theme's own links to the next page may be wider than a phone
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    inside = tab.locator("#ema-playground").evaluate("e => e.scrollWidth <= e.clientWidth")
    assert inside
    for selector in (".pg-text", "figcaption", ".pg-mark span", ".pg-credit"):
        assert contrast(tab, selector) > 4.5, selector
    if screenshots:
        tab.screenshot(path=screenshots / f"playground-{width}-{theme}.png", full_page=True)
    context.close()
    assert problems == []
