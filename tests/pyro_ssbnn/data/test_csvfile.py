import gzip

import pytest

from pyro_ssbnn.data.csvfile import load_csv
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
