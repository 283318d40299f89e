"""The built book as a whole; page by page it is read in test_pages.py."""

import pkgutil
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import emastudy

pytestmark = pytest.mark.book
BOOK = Path(__file__).parents[2] / "book"


def pages():
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    chapters = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    return [toc["root"], *chapters]


def test_every_notebook_has_its_page():
    listed = {Path(p).stem for p in pages() if p.startswith("notebooks/")}
    there = {p.stem for p in (BOOK.parent / "experiments").glob("*.ipynb")}
    assert listed == there


def test_a_link_opens_the_fold_that_it_leads_into(built, browser):
    tab = browser.new_page()
    tab.goto((built / "notebooks" / "31_photographs.html").as_uri() + "#decoder")
    heading = tab.locator("section:has(> span#decoder) > h3")
    heading.wait_for(state="visible")
    assert heading.evaluate("heading => heading.closest('details').open")
    headings = tab.locator("details.fold > summary > h2")
    assert headings.count() == tab.locator("section > details.fold").count() > 3
    tab.close()


@pytest.mark.parametrize(
    "page", ["02_ema_in_five_minutes", "14_relatives", "21_bases_normalization"]
)
def test_parameters_and_set_up_come_last(built, browser, page):
    tab = browser.new_page()
    tab.goto((built / "notebooks" / f"{page}.html").as_uri())
    assert tab.locator("article section:has(> h1) > div.cell:not(:has(.cell_output))").count() == 0
    last = tab.locator("section > details.fold").last
    assert last.locator("summary > h2").inner_text() == "Parameters and set-up"
    assert ": str =" in last.text_content()
    tab.close()


class _References(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "script" or (tag == "link" and values.get("rel") == "stylesheet") or tag == "img":
            self.found.append(values.get("src") or values.get("href") or "")


def test_no_page_names_a_script_style_or_picture_elsewhere(built):
    for path in built.rglob("*.html"):
        parser = _References()
        parser.feed(path.read_text())
        assert [r for r in parser.found if r.startswith(("http:", "https:", "//"))] == [], path


def test_no_link_leads_to_a_source_in_place_of_its_page(built):
    """Links that a notebook prints, too; the sources themselves may be downloaded."""
    for path in built.rglob("*.html"):
        links = re.findall(r'<a [^>]*href="([^"#]+\.(?:md|ipynb))[#"]', path.read_text())
        assert [link for link in links if "_sources/" not in link] == [], path


def public_names():
    """Package → its ``__all__``."""
    inside = pkgutil.walk_packages(emastudy.__path__, "emastudy.")
    packages = ["emastudy", *(found.name for found in inside if found.ispkg)]
    names = {name: getattr(import_module(name), "__all__", []) for name in packages}
    return {package: found for package, found in names.items() if found}


def api_pages():
    return [f"{page}.md" for page in pages() if page.split("/")[0] == "api"]


def test_every_package_with_public_names_has_its_section():
    found = [
        package
        for page in api_pages()
        for package in re.findall(r"^\.\. public:: (\S+)$", (BOOK / page).read_text(), re.M)
    ]
    assert sorted(found) == sorted(public_names())


def test_every_public_name_is_described_on_a_page_of_the_package(built):
    texts = [(built / page).with_suffix(".html").read_text() for page in api_pages()]
    anchors = re.findall(r'id="(?:module-)?(emastudy[\w.]*)"', "".join(texts))
    assert len(set(anchors)) == len(anchors)
    described = {}
    for module, _, name in (anchor.rpartition(".") for anchor in anchors):
        if module in sys.modules:
            described.setdefault(name, []).append(getattr(sys.modules[module], name))
    missing = [
        f"{package}.{name}"
        for package, names in public_names().items()
        for name in names
        if not any(
            value is getattr(import_module(package), name) for value in described.get(name, ())
        )
    ]
    assert missing == []


def test_bad_reference_fails_the_build(built, tmp_path):
    """The gate is real: a citation that points nowhere stops the build."""
    book = tmp_path / "book"
    shutil.copytree(built.parents[1], book, ignore=shutil.ignore_patterns("_build"))
    (book / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (book / "index.md").write_text("# One page\n\n{cite}`nobody2000nothing`\n")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", book]
    done = subprocess.run(
        [*command, "-W", "-n", "--keep-going"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "nobody2000nothing" in done.stdout + done.stderr
