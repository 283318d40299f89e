"""No page of the book has a fault that axe-core calls serious or critical, light or dark."""

from importlib.resources import files

import pytest
from rendered.test_book import pages

pytestmark = pytest.mark.book

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
# Docutils writes its bibliography as a list of role doc-biblioentry, which ARIA no longer counts
# as items of a list; no template of ours could change it.
FAULTS = """async rules => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    const only = rules ? {runOnly: rules} : {};
    const found = await axe.run(document, {resultTypes: ["violations"], ...only});
    return found.violations
        .filter(fault => ["serious", "critical"].includes(fault.impact))
        .flatMap(fault => fault.nodes.map(node => ({fault, node})))
        .filter(({fault, node}) => !(fault.id === "aria-required-children"
            && node.target.includes(".citation-list")))
        .map(({fault, node}) =>
            `${fault.id}: ${fault.help}: ${node.target} ${node.html.slice(0, 200)}`);
}"""
# Themes differ in their colours, and axe has rules of its own for those.
COLORS = ["color-contrast", "link-in-text-block"]


@pytest.mark.parametrize("page", pages())
def test_a_page_has_no_serious_fault(page, built, browser):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    for theme, rules in (("light", None), ("dark", COLORS)):
        tab.add_init_script(f"localStorage.mode = localStorage.theme = '{theme}'")
        tab.goto((built / f"{page}.html").as_uri())
        assert tab.locator("html").get_attribute("data-theme") == theme
        tab.evaluate(AXE)
        assert tab.evaluate(FAULTS, rules) == [], theme
    tab.close()
