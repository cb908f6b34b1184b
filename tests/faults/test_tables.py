"""Tables that anything may have been done to: each is fitted, or refused with a message that says where and what."""

import gzip
import io
import random

import numpy as np
import pandas as pd
import pytest

LONG_FORM = (pytest.mark.slow, pytest.mark.faults)

NAMES = (
    *("=cmd|' /C calc'!A0", "+1", "@SUM(A1)", "-2", "$_income_$", r"$\frac{1", "a" * 5_000, " "),
    *("\x1b[2J", "x\ny", "naïve Größe", "日本語", "\u202egnp.exe", "[bold]", "a,b", 'q"q', "1", ""),
    *("y", "b", "row", "mean", "predicted", "../../etc/passwd", "unnamed", "None", "😀"),
)
VALUES = (
    *(0, -1, 1e20, -1e20, 1e38, 1e39, 1e308, 1e-320, 1000, 10**30, 2**63, "inf", "-inf", "nan"),
    *(
        "NaN",
        "",
        "?",
        "text",
        "1,5",
        "1e5",
        "0x1F",
        "2020-02-30",
        "9999-12-31",
        "1e400",
        "\x1b[31m",
    ),
    *("=1+1", "True", "-", "é", "x" * 100_000, "12:30", "0001-01-01", "１２", " 7 ", "1_000", "$5"),
)
TASKS = ("regression", "student-t", "binary", "classification", "ordinal", "count", "poisson")
ENCODINGS = ("utf-16", "latin-1", "utf-8-sig", "utf-32", "cp1252", "utf-7", "cp037")
ENDINGS = (".parquet", ".feather", ".xlsx", ".xls", ".ods", ".tsv", ".gz", "", ".CSV", ".arrow")


def some_table(generator):
    """A table of a few rows and columns of any kind."""
    rng = np.random.default_rng(generator.randrange(2**32))
    n = generator.choice((1, 2, 3, 12, 12, 30, 30, 60, 60, 60, 60, 60))
    kinds = {
        "numbers": lambda: rng.normal(size=n),
        "whole": lambda: rng.integers(0, 30, n),
        "words": lambda: rng.choice(["low", "mid", "high"], n),
        "levels": lambda: [f"level {i}" for i in rng.integers(0, 40, n)],
        "rows": lambda: range(n),
        "same": lambda: [generator.choice((3, "mm", None, ""))] * n,
        "truth": lambda: rng.choice([True, False], n),
        "days": lambda: pd.date_range("1998-05-01", periods=n).strftime("%Y-%m-%d"),
        "gaps": lambda: np.where(rng.random(n) < 0.4, np.nan, rng.normal(size=n)),
        "rare": lambda: [1] + [0] * (n - 1),
    }
    target = generator.choice(("numbers", "numbers", "numbers", "words", "truth", "gaps", "whole"))
    columns = {name: kinds[generator.choice(list(kinds))]() for name in "abc"}
    return pd.DataFrame({**columns, "y": kinds[target]()})


def change_frame(frame, generator):
    """Put something odd into a frame."""
    what = generator.choice(("name", "names", "value", "column", "target", "rows", "twice", "one"))
    frame = frame.astype(object)
    if what == "name":
        name = generator.choice(NAMES)
        frame = frame.set_axis([name, *frame.columns[1:]], axis=1)
    elif what == "names":
        frame = frame.set_axis([*generator.sample(NAMES, frame.shape[1] - 1), "y"], axis=1)
    elif what in ("value", "column", "target"):
        column = frame.shape[1] - 1 if what == "target" else generator.randrange(frame.shape[1])
        rows = range(len(frame)) if what == "column" else [generator.randrange(max(len(frame), 1))]
        value = generator.choice(VALUES)
        for row in rows if len(frame) else ():
            frame.iloc[row, column] = value
    elif what == "rows":
        frame = frame.head(generator.choice((0, 1, 2, 10)))
    elif what == "twice":
        frame = pd.concat([frame, frame.iloc[:, :1]], axis=1)
    else:
        frame = frame[["y"]]
    return frame


def changed_bytes(data, generator):
    """Bytes with something done to them that happens to files."""
    at = generator.randrange(len(data)) if data else 0
    lines = data.splitlines(keepends=True) or [b""]
    line = generator.randrange(len(lines))
    what = generator.choice(
        (*("cut", "nul", "noise", "flip", "quote", "ragged", "short", "blank", "returns"), "gzip")
    )
    if what == "ragged":
        lines[line] = lines[line].rstrip(b"\n") + b",1,2\n"
    elif what == "short":
        lines[line] = lines[line].partition(b",")[2]
    elif what == "blank":
        lines.insert(line, generator.choice((b"\n", b"   \n", b",,,\n", b"#\n")))
    return {
        "cut": lambda: data[:at],
        "nul": lambda: data[:at] + b"\0" + data[at:],
        "noise": lambda: data[:at] + generator.randbytes(generator.choice((1, 40))) + data[at:],
        "flip": lambda: data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :] if data else b"\xff",
        "quote": lambda: data[:at] + b'"' + data[at:],
        "returns": lambda: data.replace(b"\n", generator.choice((b"\r\n", b"\r", b"\n\n"))),
        "gzip": lambda: gzip.compress(data),
    }.get(what, lambda: b"".join(lines))()


def write(frame, folder, generator, gentle=False):
    """A file of the frame, which may be damaged or be something else than its name says; and its delimiter."""
    if gentle:
        file = folder / "table.csv"
        frame.to_csv(file, index=False)
        return file, ","
    ending = generator.choice(ENDINGS) if generator.random() < 0.2 else ".csv"
    delimiter = generator.choice((",", ",", ",", ",", ";", "\t", "|", ":", " "))
    encoding = generator.choice(ENCODINGS) if generator.random() < 0.1 else "utf-8"
    text = frame.to_csv(index=False, sep=delimiter, encoding=encoding)
    data = text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")
    if ending in (".parquet", ".feather", ".arrow", ".xlsx") and generator.random() < 0.8:
        stream, plain = io.BytesIO(), frame.astype(str).iloc[:, ~frame.columns.duplicated()]
        plain = plain.map(lambda value: str(value)[:1_000].replace("\x1b", ""))
        plain.columns = [name.replace("\x1b", "") for name in plain.columns]
        if ending == ".xlsx":
            plain.to_excel(stream, index=False)
        else:
            (plain.to_parquet if ending == ".parquet" else plain.to_feather)(stream)
        data = stream.getvalue()
    for _ in range(generator.choice((0, 0, 0, 0, 1, 1, 2))):
        data = changed_bytes(data, generator)
    file = folder / f"table{ending}"
    file.write_bytes(generator.choice((b"", b"\n", b" ")) if generator.random() < 0.02 else data)
    return file, delimiter


def options(generator, delimiter):
    """Options of a fit, mostly plain ones."""
    chance = generator.random
    chosen = ["--target", "y" if chance() < 0.95 else generator.choice(("z", "", "a"))]
    if chance() < 0.3:
        chosen += ["--input-gates"]
    if chance() < 0.15:
        chosen += ["--task", generator.choice(TASKS)]
    if delimiter in ": " or chance() < 0.05:
        odd = generator.choice(("", "ab", "\n", '"', "é", "'"))
        chosen += ["--delimiter", delimiter if chance() < 0.8 else odd]
    for name in ("columns", "drop", "categorical", "date", "groups", "missing"):
        if chance() < 0.05:
            chosen += [f"--{name}", generator.choice(("a", "a,b", "y", "q", "", ",", "refuse"))]
    if chance() < 0.2:
        chosen += ["--test-fraction", generator.choice(("0", "0.5", "0.01", "0.99"))]
    return chosen


@pytest.mark.parametrize("number", [5, pytest.param(400, marks=LONG_FORM)])
def test_any_table_is_fitted_or_refused(call, finished, tiny, tmp_path, number, tell):
    generator = random.Random(6)
    refused, largest, longest = 0, 0.0, 0.0
    for at in range(number):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        frame = some_table(generator)
        gentle = generator.random() < 0.2
        for _ in range(0 if gentle else generator.choice((0, 0, 1, 1, 2))):
            frame = change_frame(frame, generator)
        file, delimiter = write(frame, folder, generator, gentle)
        if generator.random() < 0.2:
            command = ["predict", finished, file, "--out", folder / "predicted.csv"]
        else:
            more = options(generator, delimiter)
            command = ["fit", file, *more, *tiny, "--out", folder / "run"]
        ended = call(*command, plots=at % 8 == 0, seconds=30)
        assert "\x1b" not in ended.output, command
        if ended.code == 2:
            refused += 1
            told = ended.output.partition("Error:")[2]
            assert file.name in told or "--" in told, (command, told)
            assert len(told) < 3_000, (command, told)
            assert ended.memory < (128 << 20) + 4 * file.stat().st_size, (command, ended.memory)
            assert not (folder / "run").exists(), command
        largest, longest = max(largest, ended.memory), max(longest, ended.seconds)
    assert number / 5 < refused < number * 9 / 10
    tell(
        f"{number} tables (seed 6), four in five fitted, one predicted: {refused} refused, no traceback, at most"
        f" {largest / 1e6:.0f} MB and {longest:.1f} s of CPU time taken"
    )
