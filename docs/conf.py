"""Sphinx settings of the site; `make docs` builds it into docs/_build/html."""

import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

from docutils import nodes
from sphinx.util.nodes import make_refnode

import pyro_ssbnn

HERE = Path(__file__).parent
# The kernels of the tutorials: one thread, so that the figures are the same anywhere; no word on progress bars.
os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}

project = "pyro_ssbnn"
author = copyright = "The pyro_ssbnn developers"
version = release = pyro_ssbnn.__version__

# Markdown is MyST's, docstrings are reST as they come; pages with code cells are run when the site is built.
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

nb_execution_mode = (
    "cache"  # a page is run again where its own text has changed; `make clean-docs` runs all
)
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = True  # what the scripts write
nb_merge_streams = True
nb_render_markdown_format = "myst"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_type_aliases = {name: name for name in ("ArrayLike", "NDArray", "Network", "Guide")}
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
add_module_names = False
python_use_unqualified_type_names = True
python_display_short_literal_types = True
maximum_signature_line_length = 88

html_theme = "furo"
html_title = "pyro_ssbnn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_anchors = False


def public_home(app, env, node, contnode):
    """Resolve a reference to where a name is defined, such as pyro_ssbnn.models.MLP, to the public name, ss.MLP."""
    if node.get("refdomain") != "py":
        return None
    objects = env.get_domain("py").objects
    target = node["reftarget"]
    if target.startswith("ss."):
        target = f"pyro_ssbnn.{target[3:]}"
    parts = target.split(".")
    for length in (2, 1):
        name = f"pyro_ssbnn.{'.'.join(parts[-length:])}"
        if len(parts) >= length and name in objects:
            found = objects[name]
            return make_refnode(
                app.builder, node["refdoc"], found.docname, found.node_id, contnode, name
            )
    return None


def add_formulas(app, what, name, obj, options, lines):
    """Where a docstring leaves the formula to its module, put the module's words below it, once for each page."""
    home = sys.modules.get(getattr(obj, "__module__", None))
    text = inspect.cleandoc(getattr(home, "__doc__", None) or "")
    if what not in ("class", "function") or not text or "\n---" in text or "\n===" in text:
        return
    shown = app.env.current_document.setdefault("modules shown", set())
    refers = re.search(r"\bthe module\b", "\n".join(lines))
    if (refers or ".. math::" in text or ":math:" in text) and home.__name__ not in shown:
        shown.add(home.__name__)
        lines += ["", f".. rubric:: The module {home.__name__.removeprefix('pyro_ssbnn.')}", ""]
        lines += [*text.splitlines(), ""]


def name_aliases(app, domain, objtype, content):
    """Types that autodoc_type_aliases keeps by name come out as an object's representation."""
    for text in list(content.findall(nodes.Text)):
        if "TypeAliasForwardRef" in text:
            plain = re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text)
            text.parent.replace(text, nodes.Text(plain))


def date_results(app, page, source):
    """List the files of results with the day and the commit that wrote them; only a clone knows."""
    if page != "benchmarks":
        return
    rows = []
    for file in sorted((HERE.parent / "benchmarks/results").glob("*.json")):
        command = ["git", "log", "-1", "--format=%as | %h", "--", str(file)]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
        rows += [f"| {file.name} | {done.stdout.strip()} |"] if done.stdout.strip() else []
    table = ["| file | written | commit |", "|---|---|---|", *rows]
    source[0] = source[0].replace("<!-- files -->", "\n".join(table) if rows else "")


def setup(app):
    """Write the pages of the reference, which docs/reference.py makes, and link the names in it."""
    reference = runpy.run_path(str(HERE / "reference.py"))
    reference["write_pages"](HERE / "api")
    app.connect("missing-reference", public_home)
    app.connect("autodoc-process-docstring", add_formulas)
    app.connect("object-description-transform", name_aliases, priority=900)
    app.connect("source-read", date_results)
    app.connect("source-read", reference["link_names"])
