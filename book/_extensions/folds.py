"""Fold away what a page has below its answer, and its set-up.

On a page with a section "Answer", each later section becomes a fold-out whose title is the
section's heading. On every page the cells without output before the first section, parameters and
imports, become the last fold-out. Browsers open one by themselves when a link or a search leads
into it; no script is needed.
"""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

_OPEN, _TITLE_ENDS, _CLOSE = '<details class="fold"><summary>', "</summary>", "</details>"


def _raw(html):
    return nodes.raw("", html, format="html")


def _is_silent(node):
    """Whether it is a cell that shows nothing."""
    if not isinstance(node, nodes.container) or "cell" not in node["classes"]:
        return False
    # What a cell says on stderr, progress bars say, leaves an empty output.
    parts = node.findall(nodes.container)
    return not any("cell_output" in part["classes"] and part.children for part in parts)


class Fold(SphinxPostTransform):
    """After the table of contents was made: that wants a section to begin with its title."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs):
        """Wrap the sections of the page's first level."""
        page = next(self.document.findall(nodes.section), None)
        sections = [child for child in page or () if isinstance(child, nodes.section)]
        if not sections:
            return
        titles = [section.next_node(nodes.title).astext() for section in sections]
        after = titles.index("Answer") + 1 if "Answer" in titles else len(sections)
        for section in sections[after:]:
            place = section.first_child_matching_class(nodes.title)
            section.insert(place, _raw(_OPEN))
            section.insert(place + 2, _raw(_TITLE_ENDS))
            section.append(_raw(_CLOSE))
        first = page.index(sections[0])
        if silent := [child for child in page.children[:first] if _is_silent(child)]:
            for cell in silent:
                page.remove(cell)
            heading = f"{_OPEN}<h2>Parameters and set-up</h2>{_TITLE_ENDS}"
            page.extend([_raw(heading), *silent, _raw(_CLOSE)])


def setup(app):
    """Runs once a page, when it is written."""
    app.add_post_transform(Fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
