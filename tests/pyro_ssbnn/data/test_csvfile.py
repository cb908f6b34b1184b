import gzip

import pandas as pd
import pytest

from pyro_ssbnn.data.csvfile import csv_pieces, load_csv
from pyro_ssbnn.errors import DataError


def write(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_are_those_of_the_file_even_with_blank_and_quoted_lines(tmp_path):
    path = write(tmp_path, '\ufeffa,b\r\n1,x\r\n   \r\n2,"two\nlines"\r\n3,z')
    frame, lines = load_csv(path)
    assert list(frame.columns) == ["a", "b"]
    assert frame["a"].tolist() == [1, 2, 3]
    assert lines == [2, 5, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\n", "expected rows below the column names"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 fields as in the first line, found 1, too few.*cut"),
        ("a,b\n1,2\n\n1,2,3\n", "line 4: expected 2 fields.*found 3, too many"),
        ("a,b\n1,2,3\n1,2,3\n", "line 2: expected 2 fields.*found 3"),
        ('a,b\n1,"two\n', "not readable as comma-separated text.*quotation"),
        ("a,a\n1,2\n", "'a' occur more than once"),
        (",a\n0,2\n", r"line 1: the 1st column of 2 has no name.*index=False"),
        ("a;b\n1;2\n", r"separated by semicolons.*sep=';'"),
        pytest.param(gzip.compress(b"a,b\n1,2\n", mtime=0), "expected text in UTF-8", id="gzip"),
        ("é,b\n1,2\n".encode("latin-1"), "expected text in UTF-8"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        load_csv(write(tmp_path, content))


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv: expected a file, there is none"):
        load_csv(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="this is a folder"):
        load_csv(tmp_path)


TABLES = {
    "plain": "a,b\n1,2.5\n3,4\n-5e3,6\n",
    "no newline at the end": "a,b\n1,2\n3,4",
    "blank lines": "\n\na,b\n1,2\n\n  \n3,4\n\n",
    "windows": "a,b\r\n1,2\r\n\r\n3,4\r\n",
    "old mac": "a,b\r1,2\r3,4\r",
    "byte order mark": "\ufeffa,b\n1,2\n",
    "one column": "a\n1\n\n2\n",
    "quoted": '"a","b"\n"x, y","line\none"\n"say ""so""",2\nplain,3\n',
    "quotation mark within": 'a,b\n5" pipe,1\nx,2\ny,3\n',
    "missing": "a,b\n,NA\nred,?\n",
    "umlauts": "größe,b\nä,1\nöö,2\n",
}


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_pieces_are_the_whole(tmp_path, text, size):
    file = tmp_path / "t.csv"
    file.write_bytes(text.encode())
    frame, lines = load_csv(file)
    pieces = list(csv_pieces(file, size))
    assert [int(n) for piece in pieces for n in piece.lines] == lines
    together = pd.concat([piece.frame.astype(object) for piece in pieces], ignore_index=True)
    expected = frame.astype(object)
    assert together.columns.tolist() == frame.columns.tolist()
    for name in frame:
        for found, wanted in zip(together[name], expected[name], strict=True):
            # a piece of numbers has numbers, also where text comes later
            same = str(found) == str(wanted) or found == wanted or (found != found)
            assert same, (found, wanted)
    assert 0.9 < pieces[-1].share <= 1.0


def test_many_rows_come_in_many_pieces(tmp_path):
    file = tmp_path / "t.csv"
    pd.DataFrame({"a": range(5000), "b": 0.5}).to_csv(file, index=False)
    pieces = list(csv_pieces(file, 2_000))
    assert len(pieces) > 10
    assert max(len(piece.frame) for piece in pieces) < 500
    assert [int(n) for piece in pieces for n in piece.lines] == list(range(2, 5002))


def test_quotation_marks_of_all_kinds_do_not_hold_up_the_pieces(tmp_path):
    file = tmp_path / "t.csv"
    words = ['5" pipe', '"a, ""b"""', '"two\nlines"', "plain"]
    rows = [f"{words[i % 4]},{i}\n" for i in range(2000)]
    file.write_text(f'"a","b"\n{"".join(rows)}', encoding="utf-8")
    pieces = list(csv_pieces(file, 500))
    assert len(pieces) > 20
    assert max(len(piece.frame) for piece in pieces) < 200
    frame = pd.concat([piece.frame for piece in pieces], ignore_index=True)
    pd.testing.assert_frame_equal(frame, load_csv(file)[0])
    assert frame["a"][:4].tolist() == ['5" pipe', 'a, "b"', "two\nlines", "plain"]


@pytest.mark.parametrize("size", [1, 9, 4096])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\n", "found none"),
        ("a,b\n1,2\n3\n4,5\n", "line 3: expected 2 fields .* found 1, too few"),
        ("a,b\n1,2\n\n3,4,5\n", "line 4: expected 2 fields .* found 3, too many"),
        ('a,b\n1,2\n"3,4\n', "line 3: not readable .* inside a quotation"),
        ("a,a\n1,2\n", "'a' occur"),
        ("a;b\n1;2\n", "separated by semicolons"),
        ("a,b\n1,\udce4\n", "text in UTF-8"),
    ],
)
def test_pieces_refuse_what_the_whole_refuses(tmp_path, text, words, size):
    file = tmp_path / "t.csv"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    for read in (load_csv, lambda path: list(csv_pieces(path, size))):
        with pytest.raises(DataError, match=words):
            read(file)
