"""The figures of the small tables: what the pages say of them is what the file holds."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results():
    return json.loads((ROOT / "benchmarks/results/tables.json").read_text())


def words(page):
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def test_the_tables_of_the_page_are_those_of_the_file(results):
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks/tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    kept = ("ours", "bart", "boosting", "lasso", "forest")
    keys = [key for method in kept for key in results if key.endswith(f"/{method}")]
    shown = tables.report({key: results[key] for key in keys})
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8").splitlines()
    missing = [line for line in shown.splitlines() if line and line not in page]
    assert not missing


def test_the_comparison_with_bart_is_counted(results):
    """Ties are ties: on rare classes both predict the same class for every row."""
    pairs = [
        (record, results[key.replace("/ours", "/bart")])
        for key, record in results.items()
        if key.endswith("/ours")
    ]
    lower = sum(ours["error"] < bart["error"] for ours, bart in pairs)
    same = sum(ours["error"] == bart["error"] for ours, bart in pairs)
    denser = sum(ours["log_density"] > bart["log_density"] for ours, bart in pairs)
    false = {
        method: sum(r["false"] for key, r in results.items() if key.endswith(f"/{method}"))
        for method in ("ours", "bart", "lasso")
    }
    readme, page = words("README.md"), words("docs/results.md")
    assert (
        f"a lower error than BART on {lower} of {len(pairs)} (the same on {same}), and {false['ours']} false"
        f" predictors where BART has {false['bart']}" in readme
    )
    assert (
        f"Of {len(pairs)} data sets this package has a lower error than BART on {lower}, the same on {same}, and a"
        f" higher density on {denser}. It has {false['ours']} false predictors in all, BART {false['bart']} and the"
        f" lasso {false['lasso']}." in page
    )


@pytest.mark.parametrize(
    ("predictors", "problem"), [(15, "friedman-10-200"), (55, "friedman-50-200")]
)
def test_the_readmes_rows_are_those_of_the_file(results, predictors, problem):
    (rows,) = re.findall(
        rf"^\| {predictors} (\|.*\n(?:\| \|.*\n)+)", (ROOT / "README.md").read_text(), re.M
    )
    methods = {"pyro_ssbnn": "ours", "BART": "bart", "boosted trees": "boosting", "lasso": "lasso"}
    seen = set()
    for row in rows.splitlines():
        cells = [cell.strip(" *") for cell in row.strip("|").split("|")]
        cells = cells if cells[0] else cells[1:]
        name, *figures = cells
        records = [results[f"{problem}/{seed}/{methods[name]}"] for seed in range(5)]
        for figure, key in zip(figures, ("error", "found", "false", "cpu"), strict=True):
            if figure:
                digits = len(figure.partition(".")[2])
                assert float(figure) == pytest.approx(
                    sum(r[key] for r in records) / 5, abs=0.501 * 10**-digits
                )
        seen.add(name)
    assert seen == set(methods)
