"""Every page of the book in headless Chromium, from file://.

It reads, and has no fault that axe-core calls serious or critical, light or dark.
"""

from importlib.resources import files
from pathlib import Path

import pytest
from rendered.test_book import pages

pytestmark = pytest.mark.book

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
# Themes differ in their colours, and axe has rules of its own for those.
COLORS = ["color-contrast", "link-in-text-block"]
# Docutils writes its bibliography as a list of role doc-biblioentry, which ARIA no longer counts
# as items of a list; no template of ours could change it.
FAULTS = """async ({where, options}) => {
    const found = await axe.run(where || document, {resultTypes: ["violations"], ...options});
    return found.violations
        .filter(fault => ["serious", "critical"].includes(fault.impact))
        .flatMap(fault => fault.nodes.map(node => ({fault, node})))
        .filter(({fault, node}) => !(fault.id === "aria-required-children"
            && node.target.includes(".citation-list")))
        .map(({fault, node}) =>
            `${fault.id}: ${fault.help}: ${node.target} ${node.html.slice(0, 200)}`);
}"""
# What is folded is opened, and what then fades in is there at once.
OPEN = """() => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    for (const animation of document.getAnimations()) animation.cancel();
}"""
# Axe takes a millisecond or more to judge the colours of one piece of text, of which a page has
# thousands that look alike: one of each kind is enough. Alike are those that have the same tag, the
# same looks, and the same looks behind and around them.
KINDS_OF_TEXT = """() => {
    const looks = new Map(), kinds = new Map();
    const look = element => {
        if (!looks.has(element)) {
            const style = getComputedStyle(element);
            looks.set(element, [
                "color", "fontSize", "fontWeight", "textDecorationLine", "textShadow", "opacity",
                "filter", "position", "backgroundColor", "backgroundImage",
            ].map(name => style[name]).join());
        }
        return looks.get(element);
    };
    for (const element of document.body.querySelectorAll("*")) {
        const text = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        if (!text || !element.checkVisibility()) continue;
        const kind = [element.tagName];
        for (let around = element; around; around = around.parentElement)
            kind.push(look(around));
        kinds.set(kind.join("|"), element);
    }
    return [...kinds.values()];
}"""


def faults(tab):
    """What axe finds, apart from colours."""
    rules = {rule: {"enabled": False} for rule in COLORS}
    return tab.evaluate(FAULTS, {"options": {"rules": rules}})


def color_faults(tab):
    """What axe finds in the colours of every kind of text."""
    where = {"include": tab.evaluate_handle(KINDS_OF_TEXT)}
    return tab.evaluate(FAULTS, {"where": where, "options": {"runOnly": COLORS}})


@pytest.mark.parametrize("page", pages())
def test_a_page_reads_and_has_no_serious_fault(page, built, browser, screenshots):
    tab = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    asked, problems = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    tab.on("pageerror", lambda error: problems.append(f"script: {error}"))
    tab.add_init_script("localStorage.mode = 'auto'")
    tab.goto((built / f"{page}.html").as_uri())
    source = (built / f"{page}.html").read_text()
    if "math notranslate" in source:
        tab.wait_for_selector("mjx-container", state="attached", timeout=30_000)
    if screenshots:
        tab.screenshot(path=screenshots / f"{Path(page).name}.png", full_page=True)

    text = tab.inner_text("main")
    assert len(text) > 200
    for sign in ("Traceback (most recent call last)", "Math input error", "{cite}", "{doc}"):
        assert sign not in text
    assert tab.locator("mjx-merror, .MathJax_Error").count() == 0
    unrendered = tab.locator(".math").filter(has_not=tab.locator("mjx-container")).count()
    assert unrendered == 0
    broken = tab.evaluate(
        "[...document.querySelectorAll('main img')].filter(i => !i.naturalWidth).map(i => i.src)"
    )
    assert broken == []
    if page.startswith("notebooks/"):
        assert tab.locator("main img").count() >= 1
    folds = tab.locator("section > details.fold")
    if folds.count():
        assert tab.locator("section > details.fold[open]").count() == 0
    if tab.locator("section#answer").count():
        # Question, answer and figure: three screens.
        assert folds.first.bounding_box()["y"] <= 3 * 900
    for width in (390, 1280):
        tab.set_viewport_size({"width": width, "height": 900})
        wide = tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, "the page is wider than its window"

    assert not problems
    tab.evaluate(AXE)  # which asks for the styles once more, and on disk gets none
    tab.evaluate(OPEN)
    assert faults(tab) == []
    for theme in ("light", "dark"):
        tab.emulate_media(color_scheme=theme)
        tab.locator(f"html[data-theme={theme}]").wait_for(state="attached")
        tab.evaluate(OPEN)  # colours fade, too
        assert color_faults(tab) == [], theme
    outside = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not outside, "a page loads something from elsewhere"
    assert not [problem for problem in problems if problem.startswith("script")]
    tab.close()


def test_one_faint_word_among_many_is_found(browser):
    tab = browser.new_page()
    alike = "<p>read me</p>" * 50
    shades = ["<p id=a style='color: #bbb'>faint</p>"]
    shades += ["<div style='background: #333'><p id=b>dark on dark</p></div>"]
    shades += ["<div style='opacity: 0.3'><p id=c>nearly gone</p></div>"]
    text = alike + alike.join(shades) + alike
    tab.set_content(f"<html lang=en><title>t</title><main>{text}</main></html>")
    tab.evaluate(AXE)
    found = [fault.split(": ")[2].split()[0] for fault in color_faults(tab)]
    assert found == ["#a", "#b", "#c"]
    tab.close()
