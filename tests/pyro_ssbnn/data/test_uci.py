import pytest

from pyro_ssbnn.data import read_uci, read_uci_split, uci_splits
from pyro_ssbnn.errors import DataError

FILES = {
    "data.txt": "1 2 0.5\n3\t4  1.5 \n\n5 6 2.5\n7 8 3.5e0\n9 10 4.5\n",
    "index_features.txt": "0\n1\n",
    "index_target.txt": "2\n",
    "index_train_0.txt": "4\n0\n2\n",
    "index_test_0.txt": "1\n3\n",
    "index_train_1.txt": "0\n1\n2\n",
    "index_test_1.txt": "3\n4\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_table(folder):
    data = read_uci(folder)
    assert data.task == "regression"
    assert data.feature_names == ("x1", "x2")
    assert data.x.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert data.y.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


def test_features_and_target_are_taken_by_their_index(folder):
    (folder / "index_features.txt").write_text("2 0", encoding="utf-8")
    (folder / "index_target.txt").write_text("1.0e+00", encoding="utf-8")
    data = read_uci(folder)
    assert data.x[0].tolist() == [0.5, 1.0]
    assert data.y[0] == 2.0


def test_splits(folder):
    assert uci_splits(folder) == 2
    train, test = read_uci_split(folder, 0)
    assert train.y.tolist() == [4.5, 0.5, 2.5]
    assert test.y.tolist() == [1.5, 3.5]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("data.txt", "1 2 0.5\n\n3 4\n", "line 3: expected 3 numbers as above, found 2.*cut"),
        ("data.txt", "1 2 0.5\n3 ? 1\n", r"line 2: expected finite numbers.*found '\?'"),
        ("data.txt", "1 2 0.5\n3 nan 1\n", "line 2: expected finite.*'nan'"),
        ("data.txt", "\n", "the file is empty"),
        ("index_features.txt", "0 3", r"columns of data\.txt in 0\.\.2, found 3"),
        ("index_features.txt", "0 0", "each of the columns once"),
        ("index_features.txt", "0 1 2", "target column 2 is also in index_features"),
        ("index_features.txt", "0.5", r"whole numbers, found 0\.5"),
        ("index_target.txt", "1 2", "one target column, found 1, 2"),
        ("index_target.txt", "", "the file is empty"),
        ("index_train_0.txt", "0 5", r"rows of data\.txt in 0\.\.4, found 5"),
        ("index_test_0.txt", "0 1", r"1 rows both for training and for testing \(0\)"),
    ],
)
def test_files_that_cannot_be_used_are_refused(folder, name, text, message):
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_uci_split(folder, 0)


@pytest.mark.parametrize("split", [-1, 2])
def test_a_split_that_is_not_there(folder, split):
    with pytest.raises(DataError, match=rf"a split in 0\.\.1, got {split}"):
        read_uci_split(folder, split)


def test_incomplete_folders(folder, tmp_path):
    (folder / "n_splits.txt").write_text("3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected the 3 splits.*found 2.*'index_train_2\.txt'"):
        uci_splits(folder)
    (folder / "n_splits.txt").unlink()
    (folder / "index_test_0.txt").unlink()
    with pytest.raises(DataError, match="found no split"):
        uci_splits(folder)
    (folder / "data.txt").unlink()
    with pytest.raises(DataError, match=r"expected a file called 'data\.txt'"):
        read_uci(folder)
    with pytest.raises(DataError, match="this folder does not exist"):
        read_uci(tmp_path / "absent")


def test_bytes_that_are_no_text(folder):
    (folder / "data.txt").write_bytes(b"\x1f\x8b\xff\xff")
    with pytest.raises(DataError, match="table of numbers as text"):
        read_uci(folder)
