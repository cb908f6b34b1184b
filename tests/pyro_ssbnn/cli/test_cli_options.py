"""The options: all of the engine's are there, with its defaults, and arrive where they belong."""

from dataclasses import fields
from typing import get_args

import numpy as np
import pytest
import torch
import typer

from pyro_ssbnn import MLP, SSGHS, BetaInclusion, TheoryInclusion, TrainingOptions, __version__
from pyro_ssbnn.cli import announcing, build, training_options
from pyro_ssbnn.cli.kinds import PriorName, TaskName
from pyro_ssbnn.cli.main import app
from pyro_ssbnn.cli.networks import NetworkChoice, build_network, parse_hidden, parse_nodes
from pyro_ssbnn.cli.sources import SourceChoice
from pyro_ssbnn.data import Preprocessing, diabetes
from pyro_ssbnn.data.dataset import Task
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.models import ACTIVATIONS
from pyro_ssbnn.priors import from_config

OTHER_VALUES = {
    "epochs": "7",
    "batch_size": "9",
    "optimizer": "sgd",
    "mean_rate": "0.01",
    "momentum": "0.8",
    "scale_rate": "0.02",
    "latent_rate": "0.025",
    "rate": "0.02",
    "gate_rate": "0.03",
    "kl_warmup": "0.4",
    "decay_after": "0.6",
    "milestones": "0.5",
    "milestone_factor": "0.3",
    "clip_norm": "2.5",
    "num_particles": "3",
    "temperature": ("0.9", "0.3"),
    "gate_hold": ("0.2", "0.4"),
    "gate_method": "gradient",
    "initial_inclusion": "0.8",
    "patience": "11",
    "min_delta": "0.5",
    "remove_below": "0.2",
    "remove_after": "6",
    "seed": "4",
    "device": "cpu",
    "dtype": "float64",
    "compile": "on",
}
FLAGS = {
    "cuda_graphs": "--no-cuda-graphs",
    "local_reparameterization": "--weight-draws",
    "hard_gates": "--soft-gates",
    "screen": "--no-screen",
}


def command(name):
    return typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]


@pytest.fixture
def captured(invoke, monkeypatch, tmp_path):
    """Arguments with which ``fit`` would build a run."""

    def capture(*arguments):
        calls = []
        monkeypatch.setattr(build, "build_run", lambda *given: calls.append(given))
        result = invoke("fit", *arguments, "--out", tmp_path / "run")
        assert result.exit_code == 0, result.output
        return calls[0]

    return capture


def test_every_training_option_has_the_engines_default(captured):
    assert captured("digits")[2] == TrainingOptions()


def test_every_training_option_arrives(captured):
    names = {field.name for field in fields(TrainingOptions)} - {"precision"}  # of float32 alone
    assert OTHER_VALUES.keys() | FLAGS.keys() == names
    assert captured("digits", "--precision", "bf16")[2].precision == "bf16"
    arguments = list(FLAGS.values())
    for name, value in OTHER_VALUES.items():
        arguments += [
            f"--{name.replace('_', '-')}",
            *([value] if isinstance(value, str) else value),
        ]
    found = captured("digits", *arguments)[2]
    for name in names:
        assert getattr(found, name) != getattr(TrainingOptions(), name), name
    assert found.temperature == (0.9, 0.3)
    assert found.gate_hold == (0.2, 0.4)
    assert found.local_reparameterization is False


def test_data_and_network_options_arrive(captured):
    data, network, *_ = captured(
        *("t.csv", "--target", "y", "--task", "count", "--test-fraction", 0.3, "--seed", 8),
        *("--hidden", "", "--prior", "ss-gl", "--inclusion", "theory", "--input-gates"),
        *("--drop", 'id,"a, b"', "--categorical", "kind", "--date", "day", "--columns", "x, kind"),
        *("--missing", "refuse", "--delimiter", ";", "--groups", "patient"),
    )
    columns = {
        "columns": ("x", "kind"),
        "drop": ("id", "a, b"),
        "categorical": ("kind",),
        "date": ("day",),
        "missing": "refuse",
    }
    assert data == SourceChoice(
        "t.csv", None, "y", TaskName.count, None, 0.3, 8, columns, ";", "patient"
    )
    chosen = {"inclusion": "theory", "input_gates": True, "task": TaskName.count}
    assert network == NetworkChoice("", None, PriorName.ss_gl, **chosen)


def test_words_of_the_help_are_the_engines():
    help_of = {parameter.name: parameter.help or "" for parameter in command("fit").params}
    for name in ACTIVATIONS:
        assert name in help_of["activation"]
    for task in TaskName:
        assert task.value in help_of["task"]
        assert task.of_data in get_args(Task)
    for prior in PriorName:
        assert from_config({"name": prior.value}).name == prior.value
        assert prior.value in help_of["prior"]
    default = SSGHS()
    assert f"{default.inclusion:g}." in help_of["inclusion"]
    assert f"{default.scale:g}." in help_of["slab_scale"]
    assert f"{default.global_scale:g}." in help_of["global_scale"]
    assert f"{default.cap:g}." in help_of["cap"]
    assert f"InverseGamma({default.cap_concentration:g}, {default.cap_rate:g})" in help_of["cap"]


@pytest.mark.parametrize("name", ["fit", "summary", "plot", "prune", "predict", "bench", "export"])
def test_every_option_is_explained(invoke, name):
    assert invoke(name, "--help").exit_code == 0
    for parameter in command(name).params:
        assert parameter.help or parameter.name == "help", parameter.name


@pytest.mark.parametrize("indentation", ["    ", ""], ids=["as written", "as Python 3.13 keeps it"])
def test_help_is_read_from_docstrings(indentation):
    lines = [
        "Options.",
        "",
        ":param epochs: passes over",
        "    the data. None for 5.",
        ":param gate_rate: a rate.",
        ":raises E: no.",
    ]
    options = type("Options", (), {"__doc__": f"\n{indentation}".join(lines)})
    expected = {"epochs": "Passes over the data. By default 5.", "gate_rate": "A rate."}
    assert training_options._meanings(options) == expected


def test_version(invoke):
    assert invoke("--version").output.strip() == f"pyro-ssbnn {__version__}"


def test_small_layers_train_on_one_thread(make, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    assert announcing.enough_threads(make(), 64) == 1
    assert announcing.enough_threads(make(hidden="600"), 64) == 6  # 64 * 600 activations


def choice(**options):
    return NetworkChoice(
        **{"hidden": "8,4", "activation": "relu", "prior": PriorName.ss_ghs, **options}
    )


@pytest.fixture
def make():
    data = diabetes()
    prepared = Preprocessing.fit(data)
    return lambda **options: build_network(choice(**options), prepared, data.y)


def test_network_from_options(make):
    network = make()
    assert isinstance(network, MLP)
    assert network.prior == SSGHS()
    assert [group.size for group in network.description.groups] == [8, 4, 1]
    assert not network.description.inputs.gated
    assert network.description.inputs.names[2] == "bmi"
    theory = make(inclusion="theory").prior.inclusion
    assert theory == TheoryInclusion(442)
    assert make(inclusion="0.2,0.3").prior.inclusion == (0.2, 0.3)
    assert make(cap="random").prior.cap is None
    assert make(cap="2.5", slab_scale=0.2, global_scale=0.1).prior == SSGHS(0.2, 0.1, 0.1, 2.5)
    assert make(prior=PriorName.gaussian).description.gate_groups == ()
    alone = make(input_gates=True, linear=False).description
    assert alone.inputs.inclusion == pytest.approx(1 / 10)
    assert alone.linear is None
    for chosen in (None, True):
        both = make(input_gates=True, linear=chosen).description
        assert both.linear.inclusion == both.inputs.inclusion
        assert 1 - (1 - both.inputs.inclusion) ** 2 == pytest.approx(1 / 10)
    assert make().description.linear is None
    assert make(input_gates=True, hidden="").description.linear is None
    assert make(input_inclusion="0.3", linear=False).description.inputs.inclusion == 0.3
    assert make(input_inclusion="beta:1,9").description.inputs.inclusion == BetaInclusion(1, 9)
    assert make(inclusion="beta:2,3").prior.inclusion == BetaInclusion(2, 3)
    given = "0.3,bmi=0.9,s6=0.1"
    each = make(input_inclusion=given, linear=False).description.inputs.inclusion
    assert each == (0.3, 0.3, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.1)
    halves = np.array(make(input_inclusion=given).description.linear.inclusion)
    np.testing.assert_allclose(1 - (1 - halves) ** 2, each)
    for wrong in ("much", "0.3,weight=0.5", "0.3,bmi=much", "beta:1", "beta:a,b"):
        with pytest.raises(ConfigurationError, match="--input-inclusion: expected"):
            make(input_inclusion=wrong)
    deviation = float(diabetes().y.std(correction=0))
    assert make(noise_scale=50.0).likelihood.scale == pytest.approx(50 / deviation, rel=1e-5)


def test_default_widths_go_by_the_rows_of_a_table(make):
    data = diabetes()
    prepared = Preprocessing.fit(data)
    for rows, widths in ((None, [32]), (1_999, [32]), (2_000, [64, 32])):
        network = build_network(choice(hidden=None), prepared, data.y, rows)
        assert [group.size for group in network.description.groups[:-1]] == widths
    assert len(make(hidden="").description.groups) == 1


def test_words_for_widths_and_nodes():
    assert parse_hidden(" ") == []
    assert parse_hidden("64, 32") == [64, 32]
    assert parse_nodes("5") == 5
    assert parse_nodes("hidden1=3, input=2") == {"hidden1": 3, "input": 2}
    with pytest.raises(ValueError, match="twice"):
        parse_nodes("hidden1=3,hidden1=4")
