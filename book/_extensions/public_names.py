"""The directive ``public``: all names of a package's ``__all__``, each described once on a page.

A name that another package of the page has already shown is only listed, with where it stands.
"""

import sys
from importlib import import_module
from inspect import isclass, ismodule, isroutine
from typing import get_args

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective


class Public(SphinxDirective):
    """``.. public:: emastudy.em``"""

    required_arguments = 1

    def run(self):
        """Write what autodoc is to document, and have it parsed."""
        package = import_module(self.arguments[0])
        shown = self.env.temp_data.setdefault("public names", {})
        lines, elsewhere = [f".. automodule:: {package.__name__}", ""], []
        for name in package.__all__:
            path, value = f"{package.__name__}.{name}", getattr(package, name)
            first = shown.setdefault(_identity(name, value), path)
            # A package within it has a section of its own.
            if first == path and not hasattr(value, "__path__"):
                lines += _directive(path, name, value)
            else:
                elsewhere.append(f":py:obj:`{name} <{first}>`")
        if elsewhere:
            lines += ["Described elsewhere on this page: " + ", ".join(elsewhere) + ".", ""]
        parent = nodes.Element()
        text = StringList(lines, source=f"__all__ of {package.__name__}")
        self.state.nested_parse(text, self.content_offset, parent)
        return parent.children


def _identity(name, value):
    return id(value) if _is_defined(value) else (name, repr(value))


def _is_defined(value):
    """Whether a value knows where it was defined; constants and type aliases do not."""
    return isclass(value) or isroutine(value) or ismodule(value)


def _directive(path, name, value):
    if ismodule(value):
        return [f".. automodule:: {value.__name__}", "   :members:", ""]
    if isclass(value):
        return [f".. autoclass:: {path}", "   :members:", ""]
    if isroutine(value):
        return [f".. autofunction:: {path}", ""]
    package = path.rpartition(".")[0]
    comment = [f"   {line}" for line in _comment(name, value)]
    return [f".. py:data:: {name}", f"   :module: {package}", "", *comment, ""]


def _comment(name, value):
    """The comment ``#:`` above a constant, wherever in the package it is defined."""
    for module in [m for n, m in sorted(sys.modules.items()) if n.startswith("emastudy.")]:
        if getattr(module, name, None) is value:
            comments = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
            if ("", name) in comments:
                return comments["", name]
    choices = get_args(value)
    return [f"One of {', '.join(map(repr, choices))}."] if choices else []


def setup(app):
    """Make the directive known."""
    app.add_directive("public", Public)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
