"""The package's surface: lazy imports, names that exist, one version."""

import operator
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_ssbnn

ROOT = Path(__file__).parents[2]


def output(code, folder):
    """What a program prints that runs in a folder, so that it imports the package as it is installed."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout


def test_the_command_lines_help_needs_no_torch(tmp_path):
    modules = output("import sys, pyro_ssbnn.cli.main; print(*sys.modules)", tmp_path).split()
    assert "pyro_ssbnn.cli.main" in modules
    assert "torch" not in modules


def test_a_fit_can_be_asked_for_at_hardly_more_than_the_import_of_pyro(tmp_path):
    """Each of these costs from 0.2 to 2 CPU seconds, and is imported by what needs it."""
    code = "import sys, pyro_ssbnn as ss; ss.fit, ss.predict, ss.prune; print(*sys.modules)"
    modules = output(code, tmp_path).split()
    heavy = {
        "arviz",
        "matplotlib",
        "scipy",
        "sklearn",
        "torch._dynamo",
        "torch._inductor",
        "xarray",
    }
    assert "pyro_ssbnn.inference.loop" in modules
    assert not heavy & set(modules)


@pytest.mark.parametrize("name", pyro_ssbnn.__all__)
def test_every_public_name_can_be_had(name):
    assert getattr(pyro_ssbnn, name) is not None
    assert name in dir(pyro_ssbnn)


def test_the_page_of_names_is_the_list_and_the_docstrings():
    made = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert made["page"]() == text, "out of date; run: python docs/reference.py"
    listed = re.findall(r"^\| `ss\.(\w+)` \|", text, re.M)
    assert sorted(listed) == sorted(set(pyro_ssbnn.__all__) - {"__version__"})


def test_every_public_object_has_a_docstring_and_one_public_name():
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    paths = re.findall(r"^\| `ss\.([\w.]+)` \|", text, re.M)
    objects = {path: operator.attrgetter(path)(pyro_ssbnn) for path in paths}
    assert not [path for path, value in objects.items() if not (value.__doc__ or "").strip()]
    assert len({id(value) for value in objects.values()}) == len(paths)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = pyro_ssbnn.nonsense


def test_version_is_the_installed_one():
    from importlib.metadata import version

    assert version("pyro_ssbnn") == pyro_ssbnn.__version__


def test_no_plain_models_package_is_installed():
    """The top-level folders install only under the one import name."""
    from importlib.metadata import distribution

    assert (distribution("pyro_ssbnn").read_text("top_level.txt") or "").split() == ["pyro_ssbnn"]
