"""Arrays on disk, data sets and loaders as rows."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_ssbnn import errors
from pyro_ssbnn.rows import ArraySource, FileArray, source_of

NUMBER, WIDTH = 3_000, 20


@pytest.fixture
def x():
    return np.arange(NUMBER * WIDTH, dtype=np.float32).reshape(NUMBER, WIDTH)


class Rows(Dataset):
    def __len__(self):
        return 600

    def __getitem__(self, i):
        return np.full((2, 3), i, dtype=np.float32), float(i) + torch.rand(()).item() / 4


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Rows()[i] for i in range(600))


def together(blocks):
    xs, ys = zip(*blocks, strict=True)
    return torch.cat(xs), (None if ys[0] is None else torch.cat(ys))


def test_a_file_is_read_slice_by_slice_and_shuffled_by_blocks(tmp_path, x):
    np.save(tmp_path / "x.npy", x)
    array = FileArray.open(tmp_path / "x.npy")
    assert array.shape == x.shape
    assert np.array_equal(array[5:9], x[5:9])
    assert np.array_equal(array[NUMBER - 1 : NUMBER + 7], x[-1:])
    source = ArraySource(array, x[:, 0])
    whole, y = together(source.blocks())
    assert np.array_equal(whole, x)
    mixed, y = together(source.blocks(3))
    assert torch.equal(mixed[:, 0], y)
    assert not np.array_equal(mixed, x)
    assert torch.equal(mixed[y.argsort()], torch.from_numpy(x))
    again, _ = together(source.blocks(3))
    assert torch.equal(again, mixed)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_memory_map_is_what_it_maps_also_where_it_is_a_part_or_was_changed(tmp_path, x, mode):
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, mode, shape=x.shape)
    if mode != "r":
        mapped[7] = -1
    for array in (mapped, mapped[100:200], mapped[:, ::2], mapped.T):
        found, y = together(ArraySource(array).blocks(0 if array is mapped else None))
        assert y is None
        assert np.array_equal(np.sort(found.numpy(), 0), np.sort(array, 0))


def test_a_cut_file_and_one_that_is_none_are_refused(tmp_path, x):
    path = tmp_path / "x.npy"
    np.save(path, x)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(errors.DataError, match="the file was cut"):
        FileArray.open(path)
    path.write_text("no array")
    with pytest.raises(errors.DataError, match="not readable as a"):
        FileArray.open(path)
    np.save(path, np.array([{}, 1], dtype=object))
    with pytest.raises(errors.DataError, match="expected rows of numbers"):
        FileArray.open(path)
    np.save(path, np.asfortranarray(x))
    with pytest.raises(errors.DataError, match="column by column"):
        FileArray.open(path)


def test_small_maps_are_read_whole_and_tensors_stay_what_they_are(tmp_path, x):
    x.tofile(tmp_path / "x")
    mapped = torch.from_file(str(tmp_path / "x"), shared=True, size=x.size).view(x.shape)
    for small in (np.memmap(tmp_path / "x", np.float32, "r", shape=x.shape), mapped, x):
        assert source_of("fit", small, x[:, 0]) is None
    (tmp_path / "large").write_bytes(b"\0" * 2**26)
    large = torch.from_file(str(tmp_path / "large"), shared=True, size=2**24).view(-1, 16)
    source = source_of("fit", large, torch.zeros(2**20))
    assert isinstance(source, ArraySource)
    assert sum(len(block) for block, _ in source.blocks(1)) == 2**20


@pytest.mark.parametrize(
    "data", [Rows(), Stream(), DataLoader(Rows(), 50, shuffle=True), DataLoader(Stream(), 7)]
)
def test_data_sets_and_loaders_give_all_rows_by_the_seed_and_move_no_random_numbers(data):
    source = source_of("fit", data)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    x, y = together(source.blocks(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert x.shape == (600, 6)
    assert x[:, 0].sort().values.tolist() == list(range(600))
    assert torch.equal(y.floor(), x[:, 0].double())
    torch.manual_seed(6)
    again = together(source.blocks(1))
    assert torch.equal(again[0], x)
    assert torch.equal(again[1], y)  # the data set's own random numbers too
    other = together(source.blocks(2))
    assert not torch.equal(other[1], y)


def test_pairs_of_tensors_are_arrays():
    source = source_of("fit", TensorDataset(torch.arange(12.0).view(3, 2, 2), torch.arange(3)))
    x, y = together(source.blocks())
    assert x.tolist()[1] == [4, 5, 6, 7]
    assert y.tolist() == [0, 1, 2]


def test_what_is_no_pair_and_targets_given_twice_are_refused():
    source = source_of("fit", TensorDataset(torch.zeros(3, 2)))
    with pytest.raises(
        errors.DataError, match="pairs of predictors and targets, numbers both; got 1 parts"
    ):
        next(source.blocks())
    with pytest.raises(errors.DataError, match="fit: a Rows gives predictors and targets"):
        source_of("fit", Rows(), torch.zeros(600))
    with pytest.raises(errors.DataError, match="x has 3 rows and y has 2"):
        ArraySource(torch.zeros(3, 1), torch.zeros(2))
