"""``pyro-ssbnn summary --fdr``: error control on the command line."""

import pytest

from pyro_ssbnn import expected_false_selections, load_fit, select_fdr


def cells(output, label):
    """The table's row of that label, after the title of error control."""
    after = output[output.index("false discovery rate") :]
    row = next(
        line for line in after.splitlines() if f"│ {label} " in line or f"┃ {label} " in line
    )
    return [cell.strip() for cell in row.strip("│┃ ").split("│")]


def test_summary_prints_what_the_rate_keeps(invoke, table_run):
    guide = load_fit(table_run / "fit.safetensors").guide
    inclusion = guide.inclusion()
    for level in (0.0, 0.1, 0.9):
        selection = select_fdr(inclusion, level=level)
        result = invoke("summary", table_run, "--fdr", level)
        assert result.exit_code == 0, result.output
        assert f"rate of at most {level:g}" in result.output
        false = expected_false_selections(inclusion, selection)
        for name in ("input", "hidden1"):
            row = cells(result.output, name)
            assert row[1:3] == [str(selection.sizes[name]), str(selection.counts[name])]
            assert float(row[3]) == pytest.approx(false[name], rel=0.06)  # two digits are shown
        names = [("dose", "age", "weight")[j] for j in selection.kept["input"].tolist()]
        assert f"selected predictors: {', '.join(names) or 'none'}" in result.output


def test_without_the_option_there_is_no_such_table(invoke, table_run):
    assert "false discovery rate" not in invoke("summary", table_run).output


def test_networks_without_predictor_gates_have_rows_for_layers_only(invoke, digits_run):
    output = invoke("summary", digits_run, "--fdr", 0.2).output
    assert cells(output, "hidden2")[1] == "8"
    assert "selected predictors" not in output


@pytest.mark.parametrize("level", [1, -0.5])
def test_a_rate_outside_its_domain_is_refused(invoke, table_run, level):
    result = invoke("summary", table_run, "--fdr", level)
    assert result.exit_code == 2
    assert "--fdr: expected a rate from 0 to below 1" in result.output
