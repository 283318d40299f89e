"""Leave out the scripts of Thebe, which Jupyter Book 1.x adds to every page unasked.

They would load a live kernel's client from elsewhere, and declare one constant twice, which is an
error in the browser's console.
"""


def _drop(app, pagename, templatename, context, doctree):
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes.get('body', '')}".lower()
    ]


def setup(app):
    """Run after every extension has added its scripts."""
    app.connect("html-page-context", _drop, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
