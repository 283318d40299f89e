"""The directive ``public``: all names of a package's ``__all__``, each described once in the book.

That is under the shortest path it can be imported by; elsewhere it is only listed, with a link.
"""

import sys
from functools import cache
from importlib import import_module
from inspect import isclass, ismodule, isroutine
from pkgutil import walk_packages
from typing import get_args

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

# Characters of a value that is shown.
_LONGEST = 1000


class Public(SphinxDirective):
    """``.. public:: emastudy.em``"""

    required_arguments = 1

    def run(self):
        """Write what autodoc is to document, and have it parsed."""
        package = import_module(self.arguments[0])
        lines, elsewhere = [f".. automodule:: {package.__name__}", ""], []
        for name in package.__all__:
            path, value = f"{package.__name__}.{name}", getattr(package, name)
            first = _places()[_identity(name, value)]
            # A package within it has a section of its own.
            if first == path and not hasattr(value, "__path__"):
                lines += _directive(path, name, value)
            else:
                elsewhere.append(f":py:obj:`{name} <{first}>`")
        if elsewhere:
            lines += ["Described elsewhere: " + ", ".join(elsewhere) + ".", ""]
        parent = nodes.Element()
        text = StringList(lines, source=f"__all__ of {package.__name__}")
        self.state.nested_parse(text, self.content_offset, parent)
        return parent.children


@cache
def _places():
    """The path under which each public name is described."""
    import emastudy

    inside = walk_packages(emastudy.__path__, "emastudy.")
    packages = ["emastudy", *(found.name for found in inside if found.ispkg)]
    places = {}
    for package in sorted(packages, key=lambda path: path.count(".")):
        module = import_module(package)
        for name in getattr(module, "__all__", ()):
            places.setdefault(_identity(name, getattr(module, name)), f"{package}.{name}")
    return places


def _identity(name, value):
    return id(value) if _is_defined(value) else (name, repr(value))


def _is_defined(value):
    """Whether a value knows where it was defined; constants and type aliases do not."""
    return isclass(value) or isroutine(value) or ismodule(value)


def _directive(path, name, value):
    if ismodule(value):
        return [f".. automodule:: {value.__name__}", "   :members:", ""]
    if isclass(value):
        # Hundreds of colours would tell nobody anything.
        long = [name for name, held in vars(value).items() if len(repr(held)) > _LONGEST]
        excluded = [f"   :exclude-members: {', '.join(long)}"] if long else []
        return [f".. autoclass:: {path}", "   :members:", *excluded, ""]
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
