"""The reference, from the list of names, pyro_ssbnn/__init__.pyi, and the docstrings.

`python docs/reference.py` writes docs/reference.md, every public name with its first sentence. The site has a page for
each group of names besides, with all that their docstrings say; `make docs` writes those into docs/api.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pyro_ssbnn

PAGE = Path(__file__).with_suffix(".md")
OTHERS = "set_fit_request, set_predict_request, set_score_request"  # scikit-learn's, on estimators
LIST = Path(pyro_ssbnn.__file__).with_suffix(".pyi")
HEAD = """# Reference

`import pyro_ssbnn as ss` reaches every name below. The docstrings say the rest: shapes, units, errors, sources
(`help(ss.fit)`, or the pages of this site). This page is made from them and from `pyro_ssbnn/__init__.pyi` by
`python docs/reference.py`.
"""


def page() -> str:
    """Give the text of docs/reference.md."""
    lines = [HEAD.rstrip()]
    for title, names in groups():
        lines += ["", f"## {title}", "", "| | |", "|---|---|"]
        for name in names:
            lines += [f"| `ss.{path}` | {first_sentence(value)} |" for path, value in found(name)]
    return "\n".join(lines) + "\n"


def groups() -> Iterator[tuple[str, list[str]]]:
    """Give the title and the names of each group of the list."""
    for group in LIST.read_text(encoding="utf-8").split("\n\n# ")[1:]:
        title, names = group.split("\n", 1)
        yield title, re.findall(r"^from \S+ import ([a-zA-Z]\w*) as", names, re.M)


def found(name: str, home: object = pyro_ssbnn, path: str = "") -> list[tuple[str, object]]:
    """Give a name's path and object and, if that is a module, those of the names in it."""
    value, path = getattr(home, name), f"{path}{name}"
    rows = [(path, value)]
    if isinstance(value, ModuleType):
        for member in value.__all__:
            inner = getattr(value, member)
            if isinstance(inner, (type, ModuleType)) or inspect.isroutine(inner):  # no constants
                rows += found(member, value, f"{path}.")
    return rows


def first_sentence(value: object) -> str:
    """Give the first sentence of a docstring, as Markdown."""
    text = " ".join(inspect.cleandoc(value.__doc__ or "").split("\n\n")[0].split())
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    return re.split(r"(?<![^\w]al)\. (?=[A-Z`]|$)", f"{text} ")[0].strip().replace("|", "\\|")


def write_pages(folder: Path) -> None:
    """Write the site's page of each group, where it has changed."""
    folder.mkdir(exist_ok=True)
    for title, names in groups():
        lines = [title, "=" * len(title), ""]
        for name in names:
            for path, value in found(name):
                lines += directive(path, value)
        file, text = folder / f"{slug(title)}.rst", "\n".join(lines) + "\n"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def slug(title: str) -> str:
    """Give the name of a group's page."""
    return re.sub(r"\W+", "_", title.lower()).strip("_")


def directive(path: str, value: object) -> list[str]:
    """Give autodoc's directive for one name."""
    name = f"pyro_ssbnn.{path}"
    if isinstance(value, ModuleType):
        return [f"``ss.{path}``", "-" * (len(path) + 7), "", f".. automodule:: {name}", ""]
    if not isinstance(value, type):
        return [f".. autofunction:: {name}", ""]
    lines = [f".. autoclass:: {name}", "   :members:", f"   :exclude-members: {OTHERS}"]
    if inherited := [base for base in value.__mro__[1:-1] if base not in PUBLIC and is_ours(base)]:
        stop = [base.__name__ for base in value.__mro__ if base not in inherited][1:]
        lines.append(f"   :inherited-members: {', '.join(stop)}")
    return [*lines, ""]


def is_ours(value: type) -> bool:
    """Whether a class is the package's."""
    return value.__module__.startswith("pyro_ssbnn")


PUBLIC = [value for _, names in groups() for name in names for _, value in found(name)]


def link_names(app: object, docname: str, source: list[str]) -> None:
    """Make each name of the table of docs/reference.md a link to what the site says of it, and name its page."""
    if docname != "reference":
        return
    text = re.sub(r"^\| `(ss\.[\w.]+)` ", r"| {py:obj}`\1` ", source[0], flags=re.M)
    for title, _ in groups():
        text = text.replace(f"## {title}\n", f"## [{title}](api/{slug(title)}.rst)\n")
    pages = "\n".join(f"api/{slug(title)}" for title, _ in groups())
    source[0] = f"{text}\n```{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{pages}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
