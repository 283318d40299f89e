"""No page of the book has a fault that axe-core calls serious or critical, light or dark."""

from importlib.resources import files

import pytest
from rendered.test_book import pages

pytestmark = pytest.mark.book

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
# Docutils writes its bibliography as a list of role doc-biblioentry, which ARIA no longer counts
# as items of a list; no template of ours could change it.
FAULTS = """async () => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    const found = await axe.run(document, {resultTypes: ["violations"]});
    return found.violations
        .filter(fault => ["serious", "critical"].includes(fault.impact))
        .flatMap(fault => fault.nodes.map(node => ({fault, node})))
        .filter(({fault, node}) => !(fault.id === "aria-required-children"
            && node.target.includes(".citation-list")))
        .map(({fault, node}) =>
            `${fault.id}: ${fault.help}: ${node.target} ${node.html.slice(0, 200)}`);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", pages())
def test_a_page_has_no_serious_fault(page, theme, built, browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(f"localStorage.mode = localStorage.theme = '{theme}'")
    tab = context.new_page()
    tab.goto((built / f"{page}.html").as_uri())
    assert tab.locator("html").get_attribute("data-theme") == theme
    tab.evaluate(AXE)
    faults = tab.evaluate(FAULTS)
    context.close()
    assert faults == []
