"""Examples in docstrings run and print what they say; so does the README's program. Links lead somewhere."""

import ast
import configparser
import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("tutorials/*.md")),
]


def modules_with_examples():
    """Names of all modules, in the folders that setup.cfg gathers under one name, whose text holds an example."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    names = []
    for line in setup["options"]["package_dir"].strip().splitlines():
        package, folder = (part.strip() for part in line.split("="))
        for file in sorted((ROOT / folder).rglob("*.py")):
            if ">>> " in file.read_text(encoding="utf-8"):
                parts = file.relative_to(ROOT / folder).with_suffix("").parts
                names.append(".".join([package, *parts]).removesuffix(".__init__"))
    return names


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_a_module(name):
    """None is skipped: an example that cannot run cannot be trusted either."""
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert tests
    for test in tests:
        assert not any(doctest.SKIP in example.options for example in test.examples), test.name
        assert doctest.DocTestRunner().run(test).failed == 0, test.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_a_page_is_python(page):
    for block in python_blocks(page):
        assert ast.parse(block, page.name).body, f"{page.name}: an empty program"


def test_every_page_is_in_the_site_once():
    listed = []
    for page in PAGES:
        for toctree in re.findall(
            r"^```\{toctree\}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S
        ):
            names = [line for line in toctree.splitlines() if line and not line.startswith(":")]
            listed += [(page.parent / f"{name}.md").resolve() for name in names]
    pages = {page.resolve() for page in PAGES if page.parent != ROOT and page.name != "index.md"}
    assert sorted(listed) == sorted(pages), "a page belongs into the toctree of one section"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def anchors(page):
    """Anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    kept = [re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings]
    return {re.sub(r"\s", "-", heading.strip()) for heading in kept}


@pytest.mark.parametrize(
    "epochs", [3, pytest.param(None, marks=pytest.mark.slow)], ids=["few epochs", "as printed"]
)
@pytest.mark.filterwarnings("ignore:collapse:pyro_ssbnn.errors.CollapseWarning")
def test_the_readmes_program_runs(epochs, capsys):
    """The slow one prints what stands below it: inclusion, and what there was to keep."""
    (program,) = python_blocks(ROOT / "README.md")
    if epochs is not None:
        program = program.replace("SparseBNNRegressor()", f"SparseBNNRegressor(epochs={epochs})")
        assert "epochs" in program
    names = {}
    exec(compile(program, "README.md", "exec"), names)
    assert names["mean"].shape == names["sd"].shape == (500,)
    printed = capsys.readouterr().out
    assert "town" in printed
    if epochs is None:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        (output,) = re.findall(r"^```text\n(.*?)^```", text, re.M | re.S)
        found, shown = (
            [line.split()[:2] for line in part.splitlines()] for part in (printed, output)
        )
        assert found == shown  # how many nodes are kept may differ by one on another machine


def test_the_layer_of_the_contributors_page_is_a_layer():
    (program,) = python_blocks(ROOT / "CONTRIBUTING.md")
    assert len(program.splitlines()) < 40
    names = {}
    exec(compile(program, "CONTRIBUTING.md", "exec"), names)
    assert set(names["trace"].nodes) >= {"filters.gate", "filters.weight"}
    closed, x = names["closed"], names["x"]
    assert closed.shape == (len(x), 8, 4)
    assert not closed[..., [1, 3]].any()
    weight = names["trace"].nodes["filters.weight"]["value"]
    gate = names["trace"].nodes["filters.gate"]["value"]
    expected = torch.nn.functional.conv1d(x[:, None], weight[:, None, :-1], weight[:, -1])
    returned = names["trace"].nodes["_RETURN"]["value"]
    torch.testing.assert_close(returned, expected.mT * gate)
