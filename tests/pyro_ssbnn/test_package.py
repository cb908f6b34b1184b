"""The package's surface: lazy imports, names that exist, one version."""

import subprocess
import sys

import pytest

import pyro_ssbnn


def test_the_command_lines_help_needs_no_torch():
    code = "import sys, pyro_ssbnn.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", pyro_ssbnn.__all__)
def test_every_public_name_can_be_had(name):
    assert getattr(pyro_ssbnn, name) is not None
    assert name in dir(pyro_ssbnn)


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
