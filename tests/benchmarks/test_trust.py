"""The comparison of variational with exact answers: distances are those of the definitions, pieces are resumed."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def trust(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import trust

    yield trust
    for name in ("trust", "trust_problems", "trust_report"):
        sys.modules.pop(name, None)


def answer(inclusion, mean, epistemic, predictive, sizes):
    return {
        "inclusion": inclusion,
        "mean": mean,
        "epistemic_sd": epistemic,
        "predictive_sd": predictive,
        "sizes": {"input": sizes},
        "coverage": 0.9,
        "inclusion_error": [0.01] * len(inclusion),
        "r_hat": {"log_joint": 1.2, "noise": float("nan")},
    }


def record():
    exact = answer([1.0, 0.2] + [0.0] * 4, [0.0, 1.0], [0.5, 0.5], [2.0, 2.0], [0.1, 0.9])
    other = answer([0.8, 0.3] + [0.0] * 4, [0.0, 2.0], [0.25, 0.25], [1.0, 1.0], [0.3, 0.7])
    return {"exact": exact, "default": other, "cooled": exact, "matched": exact, "coupled": exact}


def test_distances_are_the_stated_ones(trust):
    from trust_report import comparison, inclusion_pairs, worst_r_hat

    found = comparison(record(), "default")
    assert found["inclusion"] == pytest.approx(0.3 / 6)
    assert found["size"] == pytest.approx(0.2)
    assert found["mean"] == pytest.approx((0.25 / 2) ** 0.5)
    assert found["variance"] == pytest.approx(0.25)
    assert found["epistemic"] == pytest.approx(0.5)
    same = comparison(record(), "cooled")
    assert [same[k] for k in ("inclusion", "size", "mean", "variance")] == [0, 0, 0, 1]
    assert worst_r_hat([record()]) == (1.2, "log_joint")
    pairs = inclusion_pairs({"strong ss-ig": [record()]}, "default")
    assert pairs["strong"].tolist() == [[1.0, 0.2], [0.8, 0.3]]
    assert pairs["null"].shape == (2, 4)


def test_the_file_is_taken_up_and_reported(trust, tmp_path, monkeypatch, capsys):
    file = tmp_path / "trust.json"
    file.write_text(json.dumps({"strong ss-ig": [record()]}))
    arguments = [
        "trust.py",
        "--json",
        str(file),
        "--only",
        "strong",
        "ss-ig",
        "--plots",
        str(tmp_path),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(trust, "run_piece", None)  # a piece that is there is not run again
    trust.main()
    printed = capsys.readouterr().out
    assert "| strong ss-ig | default | 0.050 | 0.200 |" in printed
    assert "**not converged**" in printed
    assert (tmp_path / "trust_inclusion.png").stat().st_size > 10_000
