"""``pyro-ssbnn report``: a run on one page, with the command that made it."""

import shutil

import pytest

from pyro_ssbnn.cli.run_folder import RunFolder


def test_a_run_is_reported_with_its_checks_and_its_command(invoke, table_run, table, tmp_path):
    file = tmp_path / "report.html"
    result = invoke("report", table_run, "--out", file)
    assert result.exit_code == 0, result.output
    text = file.read_text()
    assert f"pyro-ssbnn fit {table} --target price" in text
    assert f"--out {table_run}" in text
    for words in ("Can it be trusted?", "convergence", "How well it predicts", "random, 0.2 of"):
        assert words in text
    assert not RunFolder(table_run).report_file.exists()  # a run that tests only read


def test_verdicts_of_diagnose_are_taken_and_lost_data_are_said(
    invoke, table_run, table, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    shutil.copytree(table_run, run)
    folder = RunFolder(run)
    config = folder.read_config()
    config["source"]["source"] = str(tmp_path / "gone.csv")
    folder.write_json(folder.config_file, config)
    check = {
        "name": "signal",
        "verdict": "note",
        "finding": "Seen before.",
        "advice": "",
        "values": {},
    }
    folder.write_json(folder.diagnostics_file, {"trustworthy": True, "checks": [check]})
    result = invoke("report", run)
    assert result.exit_code == 0, result.output
    assert "without effects, calibration and checks" in result.output
    text = folder.report_file.read_text()
    assert "Seen before." in text
    assert "How well it predicts" in text  # scores were kept
    assert "What they do" not in text
    folder.write_json(folder.diagnostics_file, {"checks": [check | {"verdict": "fine"}]})
    assert invoke("report", run).exit_code == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--hidden", "4", "--input-gates"), "--hidden 4 --input-gates"),
        (
            ("--no-input-gates", "--temperature", "0.7", "0.5"),
            "--no-input-gates --temperature 0.7 0.5",
        ),
        (("--milestones", "0.5", "--milestones", "0.75"), "--milestones 0.5 --milestones 0.75"),
        (("--columns", "dose, mg"), "--columns 'dose, mg'"),
        (("--prior", "ss-ig"), "--prior ss-ig"),
    ],
)
def test_the_command_is_told_as_it_was_typed(given, told):
    import typer

    from pyro_ssbnn.cli.main import app
    from pyro_ssbnn.cli.typed import command_line

    command = typer.main.get_command(app).commands["fit"]
    context = command.make_context("fit", ["a table.csv", *given])
    words = command_line(context)
    assert words.startswith("pyro-ssbnn fit 'a table.csv'")
    for part in told.split(" --"):
        assert part in words


def test_a_fit_ends_in_what_was_found_and_what_to_look_at_next(invoke, table, tiny, tmp_path):
    run = tmp_path / "a run"
    result = invoke("fit", table, "--target", "price", "--input-gates", *tiny, "--out", run)
    assert result.exit_code == 0, result.output
    last = result.output.split("Run written to")[1].splitlines()[1:]
    told = [line.strip() for line in last if line.strip()]
    assert told[0].startswith("Found")
    assert "predictor" in told[0]
    assert "variance of price in the 16 test rows" in told[1]
    assert told[-2] == f"Next     pyro-ssbnn diagnose '{run}': can it be trusted?"
    assert told[-1].startswith(f"pyro-ssbnn report '{run}'")


def test_tables_keep_numbers_and_words_whole_in_eighty_columns(capsys, monkeypatch):
    import pandas as pd
    from rich.console import Console

    from pyro_ssbnn.cli import console

    narrow = type(console.results)(highlight=False, width=80)
    assert isinstance(narrow, Console)
    monkeypatch.setattr(console, "results", narrow)
    names = ["a name of a predictor that is longer than any other one", "b"]
    columns = ("inclusion", "log Bayes factor", "norm of weights", "selected", "nonlinear")
    frame = pd.DataFrame({c: [15473.25, -0.012345] for c in columns}, index=names)
    console.print_table("T", frame, {"": "predictor", **{c: c for c in columns}})
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "15,473" in shown
    assert "-0.0123" in shown
    assert "e+" not in shown
    for word in ("inclusion", "selected", "nonlinear", "Bayes"):
        assert word in shown
