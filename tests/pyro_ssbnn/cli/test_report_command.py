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
    from pyro_ssbnn.cli.options import command_line

    command = typer.main.get_command(app).commands["fit"]
    context = command.make_context("fit", ["a table.csv", *given])
    words = command_line(context)
    assert words.startswith("pyro-ssbnn fit 'a table.csv'")
    for part in told.split(" --"):
        assert part in words
