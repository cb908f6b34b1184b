"""The report as one HTML file: sections of text, tables and figures, put into a template that knows nothing of fits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from pyro_ssbnn._version import __version__
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.results.findings import findings
from pyro_ssbnn.results.results import Results
from pyro_ssbnn.results.sections import sections

__all__ = ["page", "write_report"]


def page(results: Results) -> str:
    """The whole report: markup, styles and pictures, no request and no script."""
    prepared = results.preprocessing
    return _template().render(
        title=f"{prepared.target_name}: {prepared.task} by a sparse Bayesian network",
        findings=findings(results),
        sections=sections(results),
        version=__version__,
    )


def write_report(results: Results, path: str | Path) -> None:
    """Write one self-contained HTML file: it opens offline, in light and dark, and can be printed.

    :raises OSError: where the file cannot be written; an earlier one is then as it was.
    """
    write_text(Path(path), page(results))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")
