import gzip
import struct

import pytest
import torch

from pyro_ssbnn.data import read_cifar, read_idx, read_idx_images
from pyro_ssbnn.errors import DataError


def idx(values, kind=8):
    values = torch.as_tensor(values, dtype=torch.uint8)
    header = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + bytes(values.flatten().tolist())


def pack(content, gz):
    return gzip.compress(content) if gz else content


IMAGES = torch.arange(4 * 2 * 3).reshape(4, 2, 3) * 10
LABELS = [0, 1, 2, 1]


def write_mnist(folder, gz=False, images=IMAGES, labels=LABELS, prefix="train", dot="-"):
    suffix = ".gz" if gz else ""
    for name, values in ((f"images{dot}idx3", images), (f"labels{dot}idx1", labels)):
        (folder / f"{prefix}-{name}-ubyte{suffix}").write_bytes(pack(idx(values), gz))


def cifar(labels, start=0):
    pixels = [[(start + row + i) % 256 for i in range(3072)] for row in range(len(labels))]
    return b"".join(bytes([label, *row]) for label, row in zip(labels, pixels, strict=True))


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 1, 2, 2), (0, 3)])
def test_idx_of_any_rank_round_trips_whatever_its_name(tmp_path, gz, shape):
    values = (torch.arange(max(1, torch.Size(shape).numel())) % 256)[: torch.Size(shape).numel()]
    values = values.reshape(shape).to(torch.uint8)
    path = tmp_path / "data"
    path.write_bytes(pack(idx(values), gz))
    found = read_idx(path)
    assert found.dtype == torch.uint8
    assert torch.equal(found, values)


def test_idx_in_several_gzip_streams(tmp_path):
    content = idx(IMAGES)
    path = tmp_path / "data.gz"
    path.write_bytes(gzip.compress(content[:10]) + gzip.compress(content[10:]))
    assert torch.equal(read_idx(path), IMAGES.to(torch.uint8))


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(IMAGES)[:-5], r"cut: expected 40 bytes for shape \[4, 2, 3\], found 35"),
        (idx(IMAGES) + b"\x00", "too long: expected 40 bytes.*found 41"),
        (idx(IMAGES)[:9], "cut: expected 16 bytes of header for rank 3, found 9"),
        (b"<html><body>", "expected an IDX file.*found 3c 68 74 6d.*web page"),
        (b"\x00\x00", "expected an IDX file"),
        (idx(IMAGES, kind=0x0D), "unsigned bytes .*found type 0d"),
    ],
)
def test_idx_that_cannot_be_read_is_refused(tmp_path, gz, content, message):
    path = tmp_path / "data"
    path.write_bytes(pack(content, gz))
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_cut_and_damaged_gzip_is_refused(tmp_path):
    noise = torch.randint(256, (50, 8, 8), generator=torch.Generator().manual_seed(0))
    whole = gzip.compress(idx(noise))
    path = tmp_path / "data.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut: expected 3216 bytes .*found \d+ and an unfinished"):
        read_idx(path)
    path.write_bytes(whole[:-4])
    with pytest.raises(DataError, match="unfinished gzip stream"):
        read_idx(path)
    path.write_bytes(whole[:-8] + b"\x00\x00\x00\x00" + whole[-4:])
    with pytest.raises(DataError, match="gzip data are damaged"):
        read_idx(path)


def test_idx_missing_empty_or_folder(tmp_path):
    with pytest.raises(DataError, match="absent: this file does not exist"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match="this is a folder"):
        read_idx(tmp_path)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        read_idx(tmp_path / "empty")


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_images(tmp_path, gz, dot):
    write_mnist(tmp_path, gz=gz, dot=dot)
    data = read_idx_images(tmp_path)
    assert data.image_shape == (1, 2, 3)
    assert data.feature_names[:4] == ("pixel[0,0]", "pixel[0,1]", "pixel[0,2]", "pixel[1,0]")
    assert torch.equal(data.x, IMAGES.flatten(1) / 255)
    assert data.y.tolist() == LABELS
    assert data.class_names == ("0", "1", "2")


def test_test_half_may_lack_a_class(tmp_path):
    write_mnist(tmp_path, labels=[0, 2, 2, 0], prefix="t10k")
    assert read_idx_images(tmp_path, "test").class_names == ("0", "1", "2")
    write_mnist(tmp_path, labels=[0, 2, 2, 0])
    with pytest.raises(DataError, match="label 2 came"):
        read_idx_images(tmp_path, "train")


def test_idx_images_that_do_not_belong_together(tmp_path):
    write_mnist(tmp_path, labels=[0, 1])
    with pytest.raises(DataError, match=r"4 images in .* and 2 labels"):
        read_idx_images(tmp_path)
    write_mnist(tmp_path, images=IMAGES.flatten(1))
    with pytest.raises(DataError, match=r"expected 3 dimensions, found 2 \(\[4, 6\]\)"):
        read_idx_images(tmp_path)


def test_image_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match=r"'train-images-idx3-ubyte\.gz', found an empty"):
        read_idx_images(tmp_path)
    with pytest.raises(DataError, match="absent: this folder does not exist"):
        read_idx_images(tmp_path / "absent")
    with pytest.raises(DataError, match="'train', 'test', got 'valid'"):
        read_idx_images(tmp_path, "valid")
    (tmp_path / "inner").mkdir()
    write_mnist(tmp_path / "inner")
    with pytest.raises(DataError, match="one in the folder 'inner' below"):
        read_idx_images(tmp_path)


@pytest.mark.parametrize("gz", [False, True])
def test_cifar_joins_the_batches_in_order(tmp_path, gz):
    suffix = ".bin.gz" if gz else ".bin"
    (tmp_path / f"data_batch_2{suffix}").write_bytes(pack(cifar([9, 0], start=7), gz))
    (tmp_path / f"data_batch_1{suffix}").write_bytes(pack(cifar([3, 5, 3]), gz))
    (tmp_path / f"test_batch{suffix}").write_bytes(pack(cifar([1, 2]), gz))
    train, test = read_cifar(tmp_path), read_cifar(tmp_path, "test")
    assert train.y.tolist() == [3, 5, 3, 9, 0]
    assert test.y.tolist() == [1, 2]
    assert train.class_names[3] == "cat"
    assert train.num_classes == test.num_classes == 10
    assert train.image_shape == (3, 32, 32)
    assert torch.allclose(train.x[3, :3] * 255, torch.tensor([7.0, 8.0, 9.0]))
    assert train.feature_names[0] == "red[0,0]"
    assert train.feature_names[1024 + 33] == "green[1,1]"
    assert train.feature_names[-1] == "blue[31,31]"


def test_a_batch_that_is_there_twice_is_read_once(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(cifar([3, 5]))
    (tmp_path / "data_batch_1.bin.gz").write_bytes(gzip.compress(cifar([3, 5])))
    assert len(read_cifar(tmp_path)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (cifar([1, 2])[:-1], "records of 3073 bytes, found 6145 bytes, which are 1 records"),
        (gzip.compress(cifar([1, 2]))[:-6], "unfinished gzip stream"),
        (cifar([1, 77]), r"labels 0\.\.9, found 77 in record 1.*CIFAR-100"),
        (b"", "the file is empty"),
    ],
    ids=["cut short", "gzip cut short", "label 77", "empty"],
)
def test_cifar_that_cannot_be_read_is_refused(tmp_path, content, message):
    (tmp_path / "data_batch_1.bin").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_cifar(tmp_path)


def test_cifar_folder_without_batches(tmp_path):
    with pytest.raises(DataError, match=r"'data_batch_1\.bin' or 'data_batch_1\.bin\.gz', found"):
        read_cifar(tmp_path)
    with pytest.raises(DataError, match=r"'test_batch\.bin'"):
        read_cifar(tmp_path, "test")
