"""What cannot be used is refused with one clear message, exit code 2, and nothing written."""

import json
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def refused(invoke, tmp_path):
    """Call the command line; it must refuse, and leave the folder as it was. Returns the message."""

    def check(*arguments):
        before = sorted(tmp_path.rglob("*"))
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        assert sorted(tmp_path.rglob("*")) == before
        return result.output

    return check


def drop_value(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(dose=frame["dose"].where(frame.index != 4))


def text(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(age=["young", *frame["age"][1:].astype(str)])


def one_class(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(price="dear")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (text, ("'young'", "line 2", "'age'", "--categorical age")),
        (
            lambda frame: text(one_class(frame)),
            ("2 problems", "'young'", "--categorical age", "two classes", "'dear'"),
        ),
        (one_class, ("two classes", "'dear'")),
        (lambda frame: frame.head(1), ("expected at least two",)),
        (
            lambda frame: frame.drop(columns="price"),
            ("no column 'price' to predict; the columns are 'dose'",),
        ),
        (lambda frame: frame.head(0), ("found none",)),
    ],
)
def test_unusable_table(refused, frame, tmp_path, spoil, words):
    data = tmp_path / "data.csv"
    spoil(frame).to_csv(data, index=False)
    message = refused("fit", data, "--target", "price", "--out", tmp_path / "deep" / "run")
    assert message.startswith("Error: ")
    for word in ("data.csv", *words):
        assert word in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--slab-scale", -1), ("--slab-scale", "positive")),
        (("--global-scale", 0), ("--global-scale", "positive")),
        (("--noise-scale", -2), ("--noise-scale", "positive")),
        (("--inclusion", "0.1,0.2,0.3"), ("3 probabilities for 1 hidden layer;",)),
        (("--inclusion", "often"), ("--inclusion", "'theory'", "'often'")),
        (("--inclusion", 1.5), ("between 0 and 1",)),
        (("--prior", "gaussian", "--inclusion", 0.1), ("no gates",)),
        (("--prior", "ss-ig", "--cap", 2), ("--cap", "ss-ghs")),
        (("--cap", 2), ("--cap", "--prior is ss-ig", "Give --prior ss-ghs")),
        (("--prior", "ss-ghs", "--cap", "high"), ("--cap", "'random'")),
        (("--hidden", "8;4"), ("--hidden", "64,32")),
        (("--hidden", "8,0"), ("at least 1",)),
        (("--activation", "step"), ("activation", "silu")),
        (("--no-input-gates", "--input-inclusion", 0.1), ("contradict",)),
        (("--epochs", 0), ("epochs", "at least 1")),
        (("--temperature", 0, 1), ("temperature", "positive")),
        (("--device", "abacus"), ("device 'abacus'",)),
        (("--test-fraction", 1.5), ("--test-fraction", "1.5")),
        (("--split", 0), ("--split", "UCI")),
        (("--format", "digits"), ("--format digits",)),
        (("--task", "count"), ("count", "whole numbers")),
    ],
)
def test_unusable_option(refused, table, tmp_path, options, words):
    message = refused("fit", table, "--target", "price", *options, "--out", tmp_path / "run")
    for word in words:
        assert word in message


def test_missing_values_are_refused_on_request(refused, frame, tmp_path):
    data = tmp_path / "data.csv"
    drop_value(frame).to_csv(data, index=False)
    options = ("--target", "price", "--missing", "refuse")
    message = refused("fit", data, *options, "--out", tmp_path / "run")
    for word in ("'dose'", "line 6", "--missing impute"):
        assert word in message
    message = refused("fit", data, *options[:3], "mend", "--out", tmp_path / "run")
    assert "--missing: expected impute or refuse" in message


def test_target_must_be_said_for_a_table_and_only_there(refused, table, tmp_path):
    message = refused("fit", table, "--out", tmp_path / "run")
    assert "--target" in message
    assert "'dose', 'age', 'weight', 'price'" in message
    message = refused("fit", "digits", "--target", "price", "--out", tmp_path / "run")
    assert "--target is for tables" in message
    message = refused("fit", "digits", "--noise-scale", 1, "--out", tmp_path / "run")
    assert "regression" in message


def test_unknown_sources(refused, tmp_path):
    message = refused("fit", tmp_path / "absent", "--out", tmp_path / "run")
    assert f"{tmp_path / 'absent'}: this file or folder does not exist" in message
    assert "Check name and folder, or give 'digits' or 'diabetes'." in message
    assert "Did you mean 'diabetes'?" in refused("fit", "diabetis", "--out", tmp_path / "run")
    (tmp_path / "empty").mkdir()
    message = refused("fit", tmp_path / "empty", "--out", tmp_path / "run")
    assert "no known layout" in message
    assert "train-images-idx3-ubyte" in message


def test_cut_idx_file(refused, idx_folder, tmp_path):
    images = idx_folder / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    message = refused("fit", idx_folder, "--out", tmp_path / "run")
    assert "train-images-idx3-ubyte: the file was cut" in message


def test_existing_run_needs_overwrite(refused, table_run, table, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(table_run, run)
    message = refused("fit", table, "--target", "price", "--out", run)
    assert "--overwrite" in message


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_what_is_no_run_is_never_replaced(refused, table, tmp_path, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work", encoding="utf-8")
    for out in (tmp_path / "thesis", tmp_path / "thesis" / "chapter.tex"):
        message = refused("fit", table, "--target", "price", "--out", out, *overwrite)
        assert "no run folder" in message
    assert (tmp_path / "thesis" / "chapter.tex").read_text(encoding="utf-8") == "years of work"


COMMANDS = [(name,) for name in ("summary", "plot", "prune", "bench", "export")]
COMMANDS.append(("predict", "digits"))


@pytest.mark.parametrize("command", COMMANDS)
def test_missing_run(refused, tmp_path, command):
    name, *rest = command
    assert "no such run folder" in refused(name, tmp_path / "absent", *rest)
    (tmp_path / "absent").mkdir()
    message = refused(name, tmp_path / "absent", *rest)
    assert "config.json and fit.safetensors missing" in message


@pytest.mark.parametrize("command", COMMANDS)
def test_foreign_checkpoint_in_the_run(refused, table_run, digits_run, tmp_path, command):
    run, (name, *rest) = tmp_path / "run", command
    shutil.copytree(table_run, run)
    shutil.copy(digits_run / "fit.safetensors", run / "fit.safetensors")
    assert "different runs" in refused(name, run, *rest)
    save_file({"weight": torch.zeros(2)}, run / "fit.safetensors")
    assert "not one written by pyro_ssbnn" in refused(name, run, *rest)
    (run / "fit.safetensors").write_bytes(b"nothing of the kind")
    assert "not a safetensors file" in refused(name, run, *rest)


def test_unreadable_record_of_a_run(refused, table_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(table_run, run)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    for content, word in (
        ("{", "not readable as JSON"),
        ("[]", "not the record of a run"),
        (json.dumps({**config, "format_version": 99}), "Upgrade"),
        (json.dumps({k: v for k, v in config.items() if k != "network"}), "network"),
    ):
        (run / "config.json").write_text(content, encoding="utf-8")
        assert word in refused("summary", run)


def test_pruning_to_nothing(refused, table_run, tmp_path):
    out = tmp_path / "small.safetensors"
    assert "hidden1" in refused("prune", table_run, "--threshold", 0.999, "--out", out)
    assert "hidden7" in refused("prune", table_run, "--nodes", "hidden7=2", "--out", out)
    assert "cannot keep 9" in refused("prune", table_run, "--nodes", 9, "--out", out)
    assert "--nodes" in refused("prune", table_run, "--nodes", "few", "--out", out)
    message = refused("prune", table_run, "--nodes", 2, "--threshold", 0.1, "--out", out)
    assert "contradict" in message
    assert ".safetensors" in refused("prune", table_run, "--out", tmp_path / "small.pt")


def test_data_that_the_model_cannot_predict_from(refused, table_run, frame, tmp_path):
    new, out = tmp_path / "new.csv", tmp_path / "out.csv"
    frame.drop(columns="dose").to_csv(new, index=False)
    message = refused("predict", table_run, new, "--out", out)
    assert f"{new}: there is no column 'dose', which the model needs; the columns are" in message
    frame.assign(dose="much", age="old").to_csv(new, index=False)
    message = refused("predict", table_run, new, "--out", out)
    assert "2 problems" in message
    assert "'much' at line 2" in message
    assert "'old' at line 2" in message
    assert "'regression'" in refused("predict", table_run, "digits", "--out", out)
    message = refused("predict", table_run, tmp_path / "nwe.csv", "--out", out)
    assert "nwe.csv: this file or folder does not exist" in message
    assert "Did you mean 'new.csv'?" in message
    frame.to_csv(new, index=False)
    assert "--interval" in refused("predict", table_run, new, "--interval", 1, "--out", out)


def test_debug_shows_the_error_itself(invoke, tmp_path):
    from pyro_ssbnn.errors import CheckpointError

    with pytest.raises(CheckpointError, match="no such run folder"):
        invoke("summary", tmp_path / "absent", "--debug")


def test_a_limit_of_the_address_space_in_which_openblas_hangs(invoke, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda of: (10**9, -1))
    result = invoke("summary", "run")
    assert result.exit_code == 2
    assert "0.9 GiB" in result.output
    assert "ulimit -v 2097152" in result.output


def test_a_fit_without_data_or_folder_is_told_how(refused, tmp_path):
    how = "is missing: pyro-ssbnn fit SOURCE --out RUN, or pyro-ssbnn fit --resume RUN"
    assert f"SOURCE {how}" in refused("fit", "--out", tmp_path / "run")
    assert f"--out {how}" in refused("fit", "digits")
