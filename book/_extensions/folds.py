"""Fold away what a page has below its answer.

On a page with a section "Answer", each later section becomes a fold-out whose title is the
section's heading. Browsers open one by themselves when a link or a search leads into it; no script
is needed.
"""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


def _raw(html):
    return nodes.raw("", html, format="html")


class Fold(SphinxPostTransform):
    """After the table of contents was made: that wants a section to begin with its title."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs):
        """Wrap the sections of the page's first level."""
        page = next(self.document.findall(nodes.section), None)
        if page is None:
            return
        sections = [child for child in page.children if isinstance(child, nodes.section)]
        titles = [section.next_node(nodes.title).astext() for section in sections]
        if "Answer" not in titles:
            return
        for section in sections[titles.index("Answer") + 1 :]:
            place = section.first_child_matching_class(nodes.title)
            section.insert(place, _raw('<details class="fold"><summary>'))
            section.insert(place + 2, _raw("</summary>"))
            section.append(_raw("</details>"))


def setup(app):
    """Runs once a page, when it is written."""
    app.add_post_transform(Fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
