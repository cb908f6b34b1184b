"""The fit is saved before anything is made of it; what fails is named, and made later; interruptions lose nothing."""

import json
import logging
import os
import shutil
import signal

import pytest
import torch
from filelock import FileLock

from pyro_ssbnn import load_fit
from pyro_ssbnn.cli import build, products
from pyro_ssbnn.inference import fit
from pyro_ssbnn.results import predictions

FINISHED = {"config.json", "fit.safetensors", "history.csv", "metrics.json", "posterior.nc"}


@pytest.fixture
def collapsing(monkeypatch):
    """Close every gate once training is over."""

    def closed(*arguments, **options):
        result = fit(*arguments, **options)
        with torch.no_grad():
            result.guide.hidden1.gate.logits.fill_(-5.0)
        return result

    monkeypatch.setattr(build, "fit", closed)


@pytest.fixture
def stopping(monkeypatch):
    """Stop the training after two epochs, once."""

    def stop(how):
        def stopped(epoch, result):
            if epoch == 2:
                how()

        monkeypatch.setattr(
            build, "fit", lambda *a, **options: fit(*a, **options, callback=stopped)
        )

    return stop


def tensors(run):
    result = load_fit(run / "fit.safetensors")
    return {**result.guide.state_dict(), **result.random_state}


@pytest.fixture(scope="module")
def whole(invoke, tiny, tmp_path_factory):
    """The run as it is when nothing stops it."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert invoke("fit", "digits", *tiny, "--out", run).exit_code == 0
    return run


@pytest.fixture
def heeded(number):
    """The signal does what it does by default: a shell's background jobs ignore Ctrl-C."""
    standard = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, standard)
    yield
    signal.signal(number, before)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_bit_by_bit(
    invoke, tiny, tmp_path, monkeypatch, stopping, whole, number
):
    """Stopped by a signal; what it says is what one has to do."""
    run = tmp_path / "runs" / "one"
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with monkeypatch.context():
        stopping(lambda: os.kill(os.getpid(), number))
        result = invoke("fit", "digits", *tiny, "--out", run)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    assert result.exit_code == 128 + number
    assert "Stopped: after 2 of 3 epochs" in result.output
    assert f"pyro-ssbnn fit --resume {run}" in result.output
    assert len(load_fit(run / "fit.safetensors").history) == 2
    told = invoke("summary", run)
    assert told.exit_code == 0
    assert "Unfinished: 2 of 3 epochs are done" in told.output
    assert "Inclusion by layer" in told.output
    record = json.loads(invoke("summary", run, "--json").stdout)
    assert (record["state"], record["epochs"], record["metrics"]) == ("training", 2, None)
    for command in (("predict", run, "digits"), ("plot", run), ("finish", run)):
        refused = invoke(*command)
        assert refused.exit_code == 2
        assert "not trained yet" in refused.output
    monkeypatch.setattr(build, "fit", fit)
    result = invoke("fit", "--resume", run, "--no-progress")
    assert result.exit_code == 0, result.output
    one, other = tensors(run), tensors(whole)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert {f.name for f in run.iterdir()} == {f.name for f in whole.iterdir()}
    assert (run / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    record = json.loads(invoke("summary", run, "--json").stdout)
    assert record["state"] == "finished"
    assert record["metrics"]["number_of_rows"] == 360
    again = invoke("fit", "--resume", run)
    assert again.exit_code == 2
    assert "nothing to go on with" in again.output


def test_resumed_options(invoke, tiny, tmp_path, monkeypatch, stopping):
    run = tmp_path / "run"

    def interrupt():
        raise KeyboardInterrupt

    stopping(interrupt)
    invoke("fit", "digits", *tiny, "--out", run)
    before = {file: file.read_bytes() for file in run.iterdir()}
    for options, words in [
        (("--hidden", 4), "--hidden cannot be given"),
        (("digits", "--out", tmp_path / "x"), "--out, --source cannot be given"),
        (("--seed", 3), "--seed: a run that is gone on with keeps its own, 0; got 3"),
        (("--batch-size", 3), "--batch-size: a run"),
        (("--soft-gates",), "--hard-gates/--soft-gates: a run"),
        (("--epochs", 0), "epochs must be"),
    ]:
        refused = invoke("fit", "--resume", run, *options)
        assert refused.exit_code == 2
        assert words in refused.output
    assert {file: file.read_bytes() for file in run.iterdir()} == before
    monkeypatch.setattr(build, "fit", fit)
    assert invoke("fit", "--resume", run, "--epochs", 5, "--draws", 7).exit_code == 0
    config = json.loads((run / "config.json").read_text())
    assert (config["options"]["epochs"], config["draws"]) == (5, 7)
    assert len(load_fit(run / "fit.safetensors").history) == 5


def test_an_unfinished_run_is_not_replaced_unasked(invoke, tiny, tmp_path, monkeypatch, stopping):
    run = tmp_path / "run"

    def interrupt():
        raise KeyboardInterrupt

    stopping(interrupt)
    invoke("fit", "digits", *tiny, "--out", run)
    refused = invoke("fit", "digits", *tiny, "--out", run)
    assert refused.exit_code == 2
    assert f"an unfinished run. Go on with it: pyro-ssbnn fit --resume {run}" in refused.output
    monkeypatch.setattr(build, "fit", fit)
    assert invoke("fit", "diabetes", *tiny, "--out", run, "--overwrite").exit_code == 0
    assert json.loads((run / "config.json").read_text())["source"]["source"] == "diabetes"
    assert {f.name for f in run.iterdir()} >= FINISHED
    assert "unfinished.json" not in {f.name for f in run.iterdir()}


def test_what_fails_is_named_and_made_later(invoke, tiny, tmp_path, monkeypatch):
    run = tmp_path / "runs" / "one"

    def full(*arguments):
        raise OSError(28, "No space left on device", "posterior.nc")

    with monkeypatch.context() as patch:
        patch.setattr(products, "write_netcdf", full)
        patch.setattr(products, "inclusion_summary", lambda *a, **k: 1 / 0)
        result = invoke("fit", "digits", *tiny, "--out", run)
    assert result.exit_code == 3
    assert "Not made: posterior.nc: posterior.nc: No space left on device." in result.output
    assert "Not made: inclusion.csv: ZeroDivisionError" in result.output
    assert f"pyro-ssbnn finish {run}" in result.output
    names = {file.name for file in run.iterdir()}
    assert {"metrics.json", "plots", "compact.safetensors", "unfinished.json"} <= names
    assert not {"posterior.nc", "inclusion.csv"} & names
    told = invoke("summary", run)
    assert told.exit_code == 0
    assert "posterior.nc: No space left on device" in told.output
    assert json.loads(invoke("summary", run, "--json").stdout)["state"] == "trained"
    before = (run / "metrics.json").stat().st_mtime_ns
    result = invoke("finish", run)
    assert result.exit_code == 0, result.output
    assert FINISHED | {"inclusion.csv"} <= {file.name for file in run.iterdir()}
    assert not (run / "unfinished.json").exists()
    assert (run / "metrics.json").stat().st_mtime_ns == before
    assert "complete" in invoke("finish", run).output


def test_an_interruption_after_training_loses_nothing(invoke, tiny, tmp_path, monkeypatch):
    run = tmp_path / "run"

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(products, "write_netcdf", interrupt)
        result = invoke("fit", "digits", *tiny, "--out", run)
    assert result.exit_code == 130
    assert f"the fit is saved in {run}. The rest: pyro-ssbnn finish {run}" in result.output
    assert invoke("fit", "--resume", run).exit_code == 0  # the same, then
    assert {file.name for file in run.iterdir()} >= FINISHED
    assert not (run / "unfinished.json").exists()


def test_two_processes_do_not_share_a_folder(invoke, tiny, table_run, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with FileLock(run / ".lock"):
        refused = invoke("fit", "digits", *tiny, "--out", run)
    assert refused.exit_code == 2
    assert "another process is writing this run now" in refused.output


@pytest.mark.usefixtures("every_plot")
def test_a_failed_overwrite_keeps_the_old_run(
    invoke, table_run, tiny, tmp_path, monkeypatch, stopping
):
    run = shutil.copytree(table_run, tmp_path / "run")
    assert (run / "plots" / "predictors.png").exists()
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}

    def fail():
        raise OSError("the network is down")

    stopping(fail)
    result = invoke("fit", "digits", *tiny, "--out", run, "--overwrite")
    assert result.exit_code == 2
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert {file.name for file in tmp_path.iterdir()} == {"run", "run.new"}
    monkeypatch.setattr(build, "fit", fit)
    result = invoke("fit", "--resume", tmp_path / "run.new", "--no-progress")
    assert result.exit_code == 0, result.output
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["source"]["source"] == "digits"
    assert not (run / "plots" / "predictors.png").exists()  # the old run's
    assert list(tmp_path.iterdir()) == [run]


def test_scores_that_are_no_numbers_are_null(invoke, tiny, tmp_path, monkeypatch):
    """JSON has no infinity, and one outlier among the test rows is no reason to lose a fit."""
    run = tmp_path / "run"
    scores = {"accuracy": 0.5, "nll": float("inf"), "ece": float("nan"), "brier": 0.1}
    with monkeypatch.context() as patch:
        patch.setattr(predictions.RunningScores, "result", lambda self: scores)
        assert invoke("fit", "digits", *tiny, "--out", run).exit_code == 0
    full = json.loads((run / "metrics.json").read_text())["full"]
    assert full == {"accuracy": 0.5, "nll": None, "ece": None, "brier": 0.1}
    assert invoke("summary", run).exit_code == 0


def test_a_log_has_a_line_of_json_for_everything(invoke, tiny, tmp_path):
    log = tmp_path / "logs" / "fit.jsonl"
    run = tmp_path / "run"
    assert invoke("fit", "digits", *tiny, "--out", run, "--log-file", log).exit_code == 0
    assert invoke("fit", "digits", *tiny, "--out", run, "--log-file", log).exit_code == 2
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [line["message"] for line in lines]
    assert any("Checkpoint after 3 epochs" in message for message in told)
    assert any(message == "posterior.nc: done" for message in told)
    assert lines[-1]["level"] == "ERROR"
    assert "there is a run already" in lines[-1]["message"]
    assert "ConfigurationError" in lines[-1]["traceback"]
    assert not logging.getLogger("pyro_ssbnn").handlers


def test_an_unexpected_error_is_one_message(invoke, table_run, monkeypatch):
    from pyro_ssbnn.cli import tables

    monkeypatch.setattr(tables, "print_layers", lambda guide: 1 / 0)
    result = invoke("summary", table_run)
    assert result.exit_code == 1
    assert "Unexpected error: ZeroDivisionError: division by zero" in result.output
    assert "--debug" in result.output
    assert "Traceback" not in result.output
    with pytest.raises(ZeroDivisionError):
        invoke("summary", table_run, "--debug")


def test_collapse_is_told_and_still_recorded(invoke, tiny, tmp_path, collapsing):
    run = tmp_path / "run"
    result = invoke("fit", "digits", *tiny, "--out", run)
    assert result.exit_code == 0, result.output
    assert "Collapse" in result.output
    assert "No node of hidden1 is active" in result.output
    assert "No pruned network" in result.output
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["collapsed"] == ["hidden1"]
    assert "pruned" not in metrics
    assert not (run / "compact.safetensors").exists()
    assert not (run / "pruning.csv").exists()
    assert "Collapse" in invoke("summary", run).output
    refused = invoke("predict", run, "digits", "--network", "pruned")
    assert refused.exit_code == 2
    assert "no pruned network" in refused.output
    assert invoke("prune", run, "--nodes", "hidden1=3").exit_code == 0
    assert invoke("predict", run, "digits", "--network", "pruned").exit_code == 0


def test_too_many_predictions_are_left_out_of_the_posterior_file(
    invoke, tiny, tmp_path, monkeypatch
):
    from pyro_ssbnn.analysis import read_netcdf
    from pyro_ssbnn.analysis.netcdf import groups_of

    monkeypatch.setattr(products, "_MOST_VALUES", 100)
    result = invoke("fit", "digits", *tiny, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "without predictions" in result.output
    groups = groups_of(read_netcdf(tmp_path / "run" / "posterior.nc"))
    assert "posterior" in groups
    assert "posterior_predictive" not in groups
