"""Image sets in their original files: IDX (the MNIST family) and CIFAR-10's binary version."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pyro_ssbnn.data.dataset import Dataset
from pyro_ssbnn.data.files import check_folder, find_file, find_numbered, read_bytes
from pyro_ssbnn.data.wording import listed, located
from pyro_ssbnn.errors import DataError

Split = Literal["train", "test"]

CIFAR_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_RECORD = 1 + math.prod(_CIFAR_SHAPE)
_UNSIGNED_BYTE = 0x08


def read_idx(path: str | Path) -> Tensor:
    """Read one IDX file of unsigned bytes, gzipped or not.

    The format (Y. LeCun, "The MNIST database"): two zero bytes, a type byte (8 for unsigned
    bytes), the rank as a byte, each dimension as a big-endian 32-bit integer, then the values
    with the last dimension changing fastest.

    :returns: A uint8 tensor of the shape in the file.
    :raises DataError: no such file, another format or type, fewer or more bytes than the shape needs.
    """
    data, complete = read_bytes(path)
    if len(data) < 4 or data[:2] != b"\x00\x00" or data[3] == 0:
        raise DataError(
            f"{path}: expected an IDX file, which starts with two zero bytes, a type "
            f"and a rank, found {data[:4].hex(' ')}. Check that this is the file you "
            f"mean and that the download is no web page."
        )
    if data[2] != _UNSIGNED_BYTE:
        raise DataError(
            f"{path}: expected an IDX file of unsigned bytes (type 08), found type "
            f"{data[2]:02x}. Images and labels of the MNIST family are bytes."
        )
    rank = data[3]
    start = 4 + 4 * rank
    if len(data) < start:
        raise DataError(
            f"{path}: the file was cut: expected {start} bytes of header for rank "
            f"{rank}, found {len(data)}. Download it again."
        )
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", count=rank, offset=4))
    expected = start + math.prod(shape)
    if len(data) != expected or not complete:
        what = "the file was cut" if len(data) <= expected else "the file is too long"
        raise DataError(
            f"{path}: {what}: expected {expected} bytes for shape {list(shape)}, found "
            f"{len(data)}{'' if complete else ' and an unfinished gzip stream'}. "
            f"Download it again."
        )
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def read_idx_images(folder: str | Path, split: Split = "train") -> Dataset:
    """Read the images and labels of one half of an MNIST-like set.

    :param folder: holds ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, or the ``t10k-`` ones, each
        perhaps with ``.gz``.
    :param split: "train" or "test".
    :returns: "classification" data; ``x [N, height * width]`` in 0..1 (byte / 255), ``image_shape`` ``(1, height,
        width)``, columns "pixel[r,c]" from the top left, classes "0".."K-1".
    :raises DataError: files absent, cut or of another format; not as many labels as images.
    """
    _check_split(split)
    directory = check_folder(folder)
    prefix = "train" if split == "train" else "t10k"
    pair = [
        find_file(directory, [f"{prefix}-{kind}{dot}idx{rank}-ubyte" for dot in "-."])
        for kind, rank in (("images", 3), ("labels", 1))
    ]
    images, labels = read_idx(pair[0]), read_idx(pair[1])
    for file, values, rank in ((pair[0], images, 3), (pair[1], labels, 1)):
        if values.ndim != rank:
            raise DataError(
                f"{file}: expected {rank} dimensions, found {values.ndim} "
                f"({list(values.shape)}). Were the files renamed?"
            )
    if len(images) != len(labels):
        raise DataError(
            f"{directory}: expected one label for each image, found {len(images)} "
            f"images in {pair[0].name} and {len(labels)} labels in {pair[1].name}. "
            f"Take both files from the same set."
        )
    height, width = images.shape[1:]
    # In a small test half a class may be absent; in the training half that is an error.
    highest = int(labels.max()) if len(labels) else 0
    names = tuple(str(k) for k in range(highest + 1)) if split == "test" else ()
    x = images.flatten(1).to(torch.float32).div_(255)
    pixels = pixel_names(("pixel",), height, width)
    with located(directory):
        shape = (1, height, width)
        return Dataset(x, labels.long(), pixels, "label", "classification", names, shape)


def read_cifar(folder: str | Path, split: Split = "train") -> Dataset:
    """Read CIFAR-10 in its binary version (A. Krizhevsky; records of a label and 3,072 pixels).

    :param folder: holds ``data_batch_1.bin`` ... (as many as there are) and ``test_batch.bin``, each perhaps with
        ``.gz``.
    :param split: "train" (all data batches, in order) or "test".
    :returns: "classification" data; ``x [N, 3072]`` in 0..1 (byte / 255), the red, green and blue planes one after
        the other, ``image_shape`` ``(3, 32, 32)``, columns "red[r,c]" ..., 10 classes.
    :raises DataError: files absent or cut, labels over 9 (CIFAR-100 has another record).
    """
    _check_split(split)
    directory = check_folder(folder)
    training = split == "train"
    files = (
        find_numbered(directory, "data_batch_")
        if training
        else [find_file(directory, ["test_batch.bin"])]
    )
    records = [_cifar_records(file) for file in files]
    x = torch.empty(sum(map(len, records)), _CIFAR_RECORD - 1)
    start = 0
    for batch in records:
        x[start : start + len(batch)] = batch[:, 1:]
        start += len(batch)
    y = torch.cat([batch[:, 0] for batch in records]).long()
    names = pixel_names(("red", "green", "blue"), *_CIFAR_SHAPE[1:])
    x, shape = x.div_(255), _CIFAR_SHAPE
    with located(directory):
        return Dataset(x, y, names, "label", "classification", CIFAR_CLASSES, shape)


def _cifar_records(file: Path) -> Tensor:
    """``[N, 3073]`` bytes, the label first."""
    data, complete = read_bytes(file)
    count, rest = divmod(len(data), _CIFAR_RECORD)
    if rest or not complete or not count:
        raise DataError(
            f"{file}: the file was cut: expected records of {_CIFAR_RECORD} bytes, "
            f"found {len(data)} bytes, which are {count} records and {rest} bytes"
            f"{'' if complete else ' of an unfinished gzip stream'}. "
            f"Download it again."
        )
    records = torch.from_numpy(np.frombuffer(data, np.uint8).reshape(count, _CIFAR_RECORD).copy())
    wrong = (records[:, 0] >= len(CIFAR_CLASSES)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{file}: expected labels 0..9, found {int(records[row, 0])} in record "
            f"{row} (counting from 0). CIFAR-100 has another layout; give CIFAR-10's "
            f"binary version."
        )
    return records


def pixel_names(planes: tuple[str, ...], height: int, width: int) -> tuple[str, ...]:
    """Name the columns of flattened images, "plane[row,column]" from 0 and the top left."""
    return tuple(
        f"{plane}[{r},{c}]" for plane in planes for r in range(height) for c in range(width)
    )


def _check_split(split: str) -> None:
    if split not in ("train", "test"):
        raise DataError(f"split: expected one of {listed(['train', 'test'])}, got {split!r}.")
