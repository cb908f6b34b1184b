"""Files as tables, whole and in pieces: what is read, and what is refused with the place where it stands."""

import gzip
import os
import zipfile
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from pyro_ssbnn.data import read_table, table_pieces
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.files import untrusted


def write(tmp_path, content, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    )
    return path


def values(table):
    return {name: table.frame[name].to_list() for name in table.names}


def test_lines_are_those_of_the_file_even_with_blank_and_quoted_lines(tmp_path):
    table = read_table(write(tmp_path, '\ufeffa,b\r\n1,x\r\n\r\n2,"two\nlines"\r\n3,z'))
    assert values(table) == {"a": [1, 2, 3], "b": ["x", "two\nlines", "z"]}
    assert list(table.numbers) == [2, 5, 6]
    assert table.rows([0, 2]) == "lines 2, 6"
    assert table.take(np.array([2, 0])).rows([0]) == "line 6"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a;b\n1,5;2\n2,5;3\n", {"a": [1.5, 2.5], "b": [2, 3]}),
        ("a\tb\n1.5\tx,y\n", {"a": [1.5], "b": ["x,y"]}),
        ("a|b\n1|2\n", {"a": [1], "b": [2]}),
        ('"a, b", c\n1,2\n', {"a, b": [1], "c": [2]}),
        (",a\n0,2\n", {"unnamed": [0], "a": [2]}),
        ("a\n1\n\n2\n", {"a": [1, 2]}),
        ("a,b\n,NA\nred,?\n", {"a": [None, "red"], "b": [None, None]}),
        ("größe,b\nä,1\nöö,2\n", {"größe": ["ä", "öö"], "b": [1, 2]}),
        ('a,b\n5" pipe,1\nx,2\n', {"a": ['5" pipe', "x"], "b": [1, 2]}),
        ("a,b\r1,2\r3,4\r", {"a": [1, 3], "b": [2, 4]}),
        ("a,t\n1,None\n2,mild\n", {"a": [1, 2], "t": ["None", "mild"]}),
    ],
)
def test_delimiters_names_and_missing_values_are_found(tmp_path, text, found):
    assert values(read_table(write(tmp_path, text))) == found


def test_a_delimiter_may_be_said(tmp_path):
    assert values(read_table(write(tmp_path, "a:b\n1:2\n"), ":")) == {"a": [1], "b": [2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\n", "expected rows below the column names"),
        ("a,b\n1,2\n3\n", "row 3: expected 2 fields as in the first line, found 1, too few.*cut"),
        ("a,b\n1,2\n\n1,2,3\n", "row 3: expected 2 fields.*found 3, too many"),
        ("a,a\n1,2\n", "'a' occur more than once"),
        pytest.param(gzip.compress(b"a,b\n1,2\n", mtime=0), "expected text in UTF-8", id="gzip"),
        ("é,b\n1,2\n".encode("latin-1"), "expected text in UTF-8"),
        ("a,b\n1,\udce4\n", "expected text in UTF-8"),
    ],
)
def test_files_that_are_no_tables_are_refused_whole_and_in_pieces(tmp_path, content, message):
    for read in (read_table, lambda path: list(table_pieces(path))):
        with pytest.raises(DataError, match=message):
            read(write(tmp_path, content))


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    (tmp_path / "score.csv").touch()
    absent = (
        r"scroe\.csv: this file does not exist \(looked from /.*\)\. Check name and folder\. Did"
    )
    with pytest.raises(DataError, match=rf"{absent} you mean 'score\.csv'\?"):
        read_table(tmp_path / "scroe.csv")
    with pytest.raises(DataError, match="this is a folder"):
        read_table(tmp_path)


@pytest.mark.parametrize("ending", ["parquet", "feather", "xlsx"])
def test_other_files_hold_the_same_table(tmp_path, ending):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]})
    path = tmp_path / f"table.{ending}"
    package = pytest.importorskip("openpyxl" if ending == "xlsx" else "pyarrow")
    assert package is not None
    getattr(frame, f"to_{ending}".replace("xlsx", "excel"))(
        path, **({"index": False} if ending == "xlsx" else {})
    )
    table = read_table(path)
    assert table.column("a").as_numbers().tolist() == [1, 2, 3]
    assert table.column("b").words.tolist() == ["x", None, "z"]
    (piece, share), *rest = table_pieces(path)
    assert (len(piece), share, rest) == (3, 1.0, [])


@pytest.mark.parametrize("ending", ["parquet", "xlsx"])
def test_what_is_not_of_its_ending_is_refused(tmp_path, ending):
    with pytest.raises(DataError, match=f"not readable as a .{ending} file"):
        read_table(write(tmp_path, "a,b\n1,2\n", f"table.{ending}"))


@pytest.mark.parametrize("ending", ["parquet", "feather", "csv", "xlsx"])
def test_a_table_without_rows_is_refused(tmp_path, ending):
    frame, path = pd.DataFrame({"a": ["x"], "b": ["y"]}).head(0), tmp_path / f"t.{ending}"
    if ending in ("csv", "xlsx"):
        (frame.to_csv if ending == "csv" else frame.to_excel)(path, index=False)
    else:
        (frame.to_parquet if ending == "parquet" else frame.to_feather)(path)
    with pytest.raises(DataError, match="expected rows below the column names, found none"):
        read_table(path)


def test_a_damaged_spreadsheet_is_refused_whatever_its_library_says(tmp_path):
    """At any place: openpyxl raises errors of zip files, of XML, of attributes, ...

    A file that was cut short has lost its directory, and is never read.
    """
    pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]}).to_excel(tmp_path / "t.xlsx", index=False)
    data = (tmp_path / "t.xlsx").read_bytes()
    for at in range(0, len(data), 97):
        changed = data[:at] + b"<&\0" + data[at + 3 :]
        file = tmp_path / "damaged.xlsx"
        file.write_bytes(changed if at % 2 else data[:at])
        read, cut = "refused", at % 2 == 0
        with suppress(DataError):
            read = read_table(file).names
        assert read == "refused" or (not cut and len(read) == 2), at


def test_a_packed_table_is_as_large_as_it_says(tmp_path, monkeypatch):
    """Zeros pack a thousandfold, and a column of one value takes no room at all: what is unpacked is bounded."""
    monkeypatch.setattr(untrusted, "_UNPACKED_FREELY", 1 << 20)
    pd.DataFrame({"a": [1]}).to_excel(tmp_path / "bomb.xlsx", index=False)
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/more.xml", bytes(3 << 20))
    with pytest.raises(DataError, match=r"packed file of \d+,\d+ bytes holds 3,\d+,\d+ bytes"):
        read_table(tmp_path / "bomb.xlsx")
    same = pyarrow.table({"a": pyarrow.array([1]).take(pyarrow.array(np.zeros(1_000_000, "int8")))})
    parquet = tmp_path / "same.parquet"
    pyarrow.parquet.write_table(same, parquet)
    assert parquet.stat().st_size < 50_000
    monkeypatch.setattr(os, "sysconf", lambda name: 2_000)  # pages of so many bytes: 4 MB of memory
    with pytest.raises(ConfigurationError, match="the table would take about"):
        read_table(parquet)


@pytest.mark.parametrize("delimiter", ["", "ab", "\n", '"', "é", "\0"])
def test_what_can_be_no_delimiter_is_refused(tmp_path, delimiter):
    with pytest.raises(ConfigurationError, match="delimiter must be one ASCII character"):
        read_table(write(tmp_path, "a,b\n1,2\n", "t.csv"), delimiter)


def test_pieces_are_the_whole_and_know_their_lines(tmp_path):
    file = tmp_path / "t.csv"
    words = ['"5"" pipe"', '"a, ""b"""', '"two\nlines"', "plain"]
    rows = [f"{words[i % 4]},{i},{i / 7}\n" for i in range(3000)]
    file.write_text(f'"a","b","c"\n{"".join(rows)}', encoding="utf-8")
    whole = read_table(file)
    pieces = list(table_pieces(file, size=10_000))
    assert len(pieces) > 5
    assert max(len(piece) for piece, _ in pieces) < 1000
    for name in whole.names:
        together = [v for piece, _ in pieces for v in piece.frame[name].to_list()]
        assert together == whole.frame[name].to_list()
    first = sum(len(piece) for piece, _ in pieces[:3])
    assert pieces[3][0].numbers[1] == whole.numbers[first + 1]
    assert pieces[-1][1] == 1.0


def test_a_column_read_as_text_is_the_same_in_every_piece(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(
        "zip,n\n" + "".join(f"{i:05d},{i}\n" for i in range(2000)) + "AB1,1\n", encoding="utf-8"
    )
    pieces = [piece for piece, _ in table_pieces(file, ["zip"], size=5_000)]
    assert len(pieces) > 2
    assert pieces[0].column("zip").words[:2].tolist() == ["00000", "00001"]
    assert pieces[-1].column("zip").words[-1] == "AB1"
