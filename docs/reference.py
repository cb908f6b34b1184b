"""Write docs/reference.md: every public name with its first sentence, from pyro_ssbnn/__init__.pyi and the docstrings.

python docs/reference.py
"""

import inspect
import re
from pathlib import Path
from types import ModuleType

import pyro_ssbnn

PAGE = Path(__file__).with_suffix(".md")
LIST = Path(pyro_ssbnn.__file__).with_suffix(".pyi")
HEAD = """# Reference

`import pyro_ssbnn as ss` reaches every name below, `help(ss.fit)` says all of it: shapes, units, errors, sources.
It is made by `python docs/reference.py` from the list of names, `pyro_ssbnn/__init__.pyi`, and from the docstrings.
"""


def page() -> str:
    """Give the page's text."""
    lines = [HEAD.rstrip()]
    for group in LIST.read_text(encoding="utf-8").split("\n\n# ")[1:]:
        title, names = group.split("\n", 1)
        lines += ["", f"## {title}", "", "| | |", "|---|---|"]
        for name in re.findall(r"^from \S+ import ([a-zA-Z]\w*) as", names, re.M):
            lines += rows(f"ss.{name}", getattr(pyro_ssbnn, name))
    return "\n".join(lines) + "\n"


def rows(name: str, value: object) -> list[str]:
    """Give one row of the table for a name, and one for each name in it if it is a module."""
    found = [f"| `{name}` | {first_sentence(value)} |"]
    if isinstance(value, ModuleType):
        for member in value.__all__:
            inner = getattr(value, member)
            if isinstance(inner, (type, ModuleType)) or inspect.isroutine(inner):  # no constants
                found += rows(f"{name}.{member}", inner)
    return found


def first_sentence(value: object) -> str:
    """Give the first sentence of a docstring, as Markdown."""
    text = " ".join(inspect.cleandoc(value.__doc__ or "").split("\n\n")[0].split())
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    return re.split(r"(?<![^\w]al)\. (?=[A-Z`]|$)", f"{text} ")[0].strip().replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
