"""Benchmarks that go on where they stopped, one fit after another or side by side."""

import json
import sys
from pathlib import Path

import joblib
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run_missing(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    from resume import run_missing

    yield run_missing
    sys.modules.pop("resume", None)


@pytest.mark.parametrize("jobs", [None, 2])
def test_what_the_file_holds_is_not_run_again(run_missing, tmp_path, jobs):
    file, ran = tmp_path / "results.json", []

    def run(key):
        if key == "stops":
            raise KeyboardInterrupt
        ran.append(key)
        return {"length": len(key)}

    with joblib.parallel_config("threading"):  # which n_jobs=2 then takes: no process to start
        with pytest.raises(KeyboardInterrupt):
            run_missing(["a", "bb", "stops"], run, file, jobs=jobs)
        assert set(json.loads(file.read_text())) == {"a", "bb"}
        found = run_missing(["a", "bb", "ccc", "dddd"], run, file, jobs=jobs)
    assert sorted(ran) == ["a", "bb", "ccc", "dddd"]
    assert found == {key: {"length": len(key)} for key in ("a", "bb", "ccc", "dddd")}
    assert json.loads(file.read_text()) == found
