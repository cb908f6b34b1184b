"""Tables read in pieces: what is learnt and encoded is what a table in memory gives."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_ssbnn import errors
from pyro_ssbnn.data import ColumnChoice, Preprocessing, TableStream, columnar, pieces, read_table
from pyro_ssbnn.data.column import Column
from pyro_ssbnn.data.facts import Facts, Reading
from pyro_ssbnn.data.table import Table

NUMBER = 900


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Of 100 rows, about."""
    monkeypatch.setattr(columnar, "ROWS", 97)
    monkeypatch.setattr(pieces, "_PIECE", 8_000)


@pytest.fixture(scope="module")
def frame():
    random = np.random.default_rng(0)
    many = random.normal(1e6, 3, NUMBER)
    many[random.random(NUMBER) < 0.1] = np.nan
    days = pd.Timestamp("2020-05-17") + pd.to_timedelta(random.integers(0, 900, NUMBER), "D")
    frame = pd.DataFrame(
        {
            "row id": np.arange(NUMBER),
            "level": random.normal(1e6, 3, NUMBER),
            "gaps": many,
            "whole": random.integers(-3, 9, NUMBER),
            "kind": random.choice(["red", "green, or not", "blue"], NUMBER),
            "pair": random.choice(["yes", "no"], NUMBER),
            "on": random.random(NUMBER) < 0.5,
            "code": random.choice([1, 2, 7], NUMBER),
            "day": days.strftime("%Y-%m-%d"),
            "late": [str(v) for v in random.normal(size=NUMBER).round(3)],
            "constant": 4.0,
            "empty": np.nan,
            "name": [f"person {i}" for i in range(NUMBER)],
            "y": random.normal(5, 2, NUMBER),
            "class": random.choice(["a", "b", "c"], NUMBER),
            "count": random.poisson(3, NUMBER),
        }
    )
    frame.loc[:300, "whole"] = 1  # decided by what comes later
    frame.loc[frame.index[-1], "late"] = "none of them"
    frame.loc[5:9, "kind"] = None
    frame.loc[3:4, "y"] = np.nan
    return frame


CHOICE = ColumnChoice(categorical=("code",), drop=("late",))


def written(frame, folder, kind, files=3):
    paths = []
    for i, part in enumerate(np.array_split(np.arange(len(frame)), files)):
        path = folder / f"{i}.{kind}"
        if kind == "csv":
            frame.iloc[part].to_csv(path, index=False)
        else:
            getattr(frame.iloc[part].reset_index(drop=True), f"to_{kind}")(path)
        paths.append(path)
    return paths


def record(prepared):
    """What was learnt, its numbers apart."""
    found = json.loads(json.dumps(prepared.to_dict()))
    moments = [
        (p.pop("loc"), p.pop("scale")) for p in found["features"]["predictors"] if "loc" in p
    ]
    target = found["target"]
    moments.append((target.pop("loc"), target.pop("scale")))
    return found, np.asarray(moments)


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather"])
@pytest.mark.parametrize(
    ("target", "task"), [("y", None), ("class", None), ("count", "count"), ("pair", "binary")]
)
def test_a_stream_learns_and_encodes_what_a_table_in_memory_does(
    tmp_path, frame, kind, target, task
):
    others = {"y", "class", "count", "pair"} - {target, "pair"}
    frame = frame.drop(columns=list(others))
    files = written(frame, tmp_path, kind)
    stream = TableStream(files, target, task=task, choice=CHOICE, test_fraction=0)
    frame.to_csv(tmp_path / "whole.csv", index=False)
    table, unknown = read_table(tmp_path / "whole.csv").with_target(target)
    in_memory = Preprocessing.fit(table, target, task, CHOICE)
    (found, moments), (expected, exact) = record(stream.preprocessing), record(in_memory)
    assert found == expected
    assert moments == pytest.approx(exact, rel=1e-10)
    assert stream.rows == {"train": len(table), "test": 0, "without_target": unknown}
    train, test = stream.encoded(tmp_path / "rows")
    assert test is None
    encoded = in_memory.apply(table)
    x, y = (torch.cat(part) for part in zip(*train.blocks(), strict=True))
    assert x.dtype == torch.float32
    assert torch.allclose(x.double(), encoded.x, atol=2e-6)
    assert y.dtype == encoded.y.dtype
    assert torch.allclose(y, encoded.y, rtol=1e-9)
    assert len(train) == train.total == len(encoded)
    part = next(train.parts())
    assert torch.equal(part.observed, encoded.observed)  # all digits
    assert part.row.tolist() == (
        sorted(set(range(NUMBER)) - {3, 4}) if unknown else list(range(NUMBER))
    )


def test_rows_are_held_out_alike_each_time_and_by_whole_groups(tmp_path, frame):
    files = written(frame, tmp_path, "parquet")
    streams = [TableStream(files, "y", choice=CHOICE, test_fraction=0.3, seed=s) for s in (1, 1, 2)]
    held = [s.encoded(tmp_path / f"rows{i}")[1].row[:].tolist() for i, s in enumerate(streams)]
    assert held[0] == held[1] != held[2]
    assert len(held[0]) == pytest.approx(0.3 * NUMBER, abs=4 * (0.21 * NUMBER) ** 0.5)
    assert streams[0].rows["train"] + len(held[0]) == NUMBER - 2
    # Rows held out teach nothing.
    train = frame.drop(index=[*held[0], 3, 4])
    assert streams[0].preprocessing.target.loc == pytest.approx(train["y"].mean(), rel=1e-12)
    grouped = TableStream(files, "y", choice=CHOICE, test_fraction=0.5, groups="whole")
    _, test = grouped.encoded(tmp_path / "grouped")
    inside = frame["whole"].iloc[test.row[:]]
    outside = frame["whole"].drop(index=test.row[:])
    assert not set(inside) & set(outside.drop(index=[3, 4], errors="ignore"))
    assert "whole" not in grouped.preprocessing.feature_names


def test_a_logarithm_is_learnt_and_a_power_refused(tmp_path, frame):
    positive = frame.assign(y=frame["y"].abs() + 0.1)
    files = written(positive, tmp_path, "parquet")
    found = TableStream(files, "y", choice=CHOICE, transform="log", test_fraction=0).preprocessing
    logs = np.log(positive["y"].dropna())
    assert found.target.loc == pytest.approx(logs.mean(), rel=1e-12)
    assert found.target.scale == pytest.approx(logs.std(ddof=0), rel=1e-12)
    with pytest.raises(errors.DataError, match="yeo-johnson is fitted to all targets together"):
        _ = TableStream(files, "y", transform="yeo-johnson").preprocessing


def test_a_column_of_more_words_than_are_told_apart(tmp_path, frame, monkeypatch):
    monkeypatch.setattr("pyro_ssbnn.data.survey._MOST", 200)
    files = written(frame, tmp_path, "csv")
    prepared = TableStream(files, "y", choice=CHOICE, test_fraction=0).preprocessing
    assert prepared.features.left_out["name"] == "a name for each row"
    assert prepared.features.identifier == "row id"
    half = frame.assign(name=[f"person {i // 3}" for i in range(NUMBER)])
    files = written(half, tmp_path, "csv")
    with pytest.raises(errors.DataError, match="'name': more than 200 different values"):
        _ = TableStream(files, "y", choice=CHOICE, test_fraction=0).preprocessing


def test_moments_of_pieces_are_those_of_all(tmp_path):
    """At a mean of 1e9 deviations: sums of squares would have no digits left."""
    values = np.random.default_rng(1).normal(1e9, 1, 10_000)
    table = Table.of({"v": values})
    reading = Reading("v", 100, counts=False, parses=True)
    for part in np.array_split(values, 37):
        reading.add(Column("v", "number", part), table)
    assert reading.facts.mean == pytest.approx(values.mean(), rel=1e-15)
    assert reading.facts.sd == pytest.approx(values.std(), rel=1e-7)
    assert Facts.of(Column("v", "number", values), table).sd == values.std()


def test_what_is_wrong_is_told_with_its_place(tmp_path, frame):
    bad = frame.assign(level=frame["level"].astype(object))
    bad.loc[700, "level"] = "much"
    with pytest.raises(
        errors.DataError, match=r"'level': expected numbers, found text .* first 'much' at line 102"
    ):
        _ = TableStream(
            written(bad, tmp_path, "csv"), "y", choice=CHOICE, test_fraction=0
        ).preprocessing
    infinite = frame.assign(level=np.where(np.arange(NUMBER) == 700, np.inf, 1.0))
    with pytest.raises(errors.DataError, match=r"'level' is infinite, .* \(row 700, value inf\)"):
        _ = TableStream(
            written(infinite, tmp_path, "parquet"), "y", choice=CHOICE, test_fraction=0
        ).preprocessing
    files = written(frame, tmp_path, "parquet")
    for options in ({"target": "kin"}, {"target": "y", "groups": "kin"}):
        with pytest.raises(
            errors.DataError,
            match=r"0\.parquet and 2 more: there is no column 'kin'.*mean 'kind'\?",
        ):
            _ = TableStream(files, **options).preprocessing
    frame.drop(columns="on").to_parquet(files[1])
    with pytest.raises(errors.DataError, match="'on' is only in one of them"):
        _ = TableStream(files, "y").preprocessing
    files[1].write_bytes(b"PAR1 and no more")
    with pytest.raises(errors.DataError, match="not readable as parquet"):
        _ = TableStream(files, "y").preprocessing
    with pytest.raises(errors.DataError, match="all parquet, all feather or all text"):
        _ = TableStream([files[0], *written(frame, tmp_path, "csv", 1)], "y").preprocessing


def test_a_copy_of_the_target_in_all_pieces_is_said(tmp_path, frame):
    near = frame["y"].mask(np.arange(NUMBER) == NUMBER - 1, 0.0)
    files = written(frame.assign(near=near, copy=frame["y"]), tmp_path, "csv")
    with pytest.warns(errors.DataWarning, match="the target 'y' equals 'copy' in every"):
        _ = TableStream(files, "y", choice=CHOICE, test_fraction=0).preprocessing


def test_rows_on_disk_are_written_once_and_checked(tmp_path, frame):
    files = written(frame, tmp_path, "parquet")
    stream = TableStream(files, "y", choice=CHOICE, test_fraction=0.2)
    train, _ = stream.encoded(tmp_path / "rows")
    files[0].unlink()
    again, _ = stream.encoded(tmp_path / "rows", stream.preprocessing)  # from the folder
    assert np.array_equal(again.x[:], train.x[:])
    sample = again.sample(50)
    assert len(sample) == 50
    assert sample.total == len(train)
    path = tmp_path / "rows" / "train.y.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(errors.DataError, match="must be written again"):
        stream.encoded(tmp_path / "rows", stream.preprocessing)
    path.unlink()
    with pytest.raises(errors.DataError, match="is absent"):
        stream.encoded(tmp_path / "rows", stream.preprocessing)
