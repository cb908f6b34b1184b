"""Folders of PNG and JPEG images, one folder for each class."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pyro_ssbnn.checks import require_memory
from pyro_ssbnn.data.dataset import Dataset
from pyro_ssbnn.data.files import check_folder, check_unpacked
from pyro_ssbnn.data.images import pixel_names
from pyro_ssbnn.data.wording import listed, located
from pyro_ssbnn.errors import DataError

__all__ = ["class_folders", "image_files", "read_image_folder", "require_no_link"]

SUFFIXES = (".png", ".jpg", ".jpeg")
_FORMATS = ("PNG", "JPEG")
_GREY = ("1", "L", "LA", "I", "I;16")
_LARGEST_SIDE = 4096


def class_folders(folder: Path) -> list[Path]:
    """Folders that hold images themselves, in the order of their names; hidden ones are none.

    :raises DataError: for symbolic links among them or their images.
    """
    within = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    seen = [entry for entry in within if not entry.name.startswith(".")]
    found = [entry for entry in seen if image_files(entry)]
    for entry in found:
        require_no_link(entry)
    return found


def image_files(folder: Path) -> list[Path]:
    """PNG and JPEG files by their names, in order.

    :raises DataError: for symbolic links among them.
    """
    named = (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    found = sorted(file for file in named if file.is_file() and not file.name.startswith("."))
    for file in found:
        require_no_link(file)
    return found


def require_no_link(path: Path) -> None:
    """Raise :class:`DataError` for a symbolic link: what it points to is none of the folder's."""
    if path.is_symlink():
        raise DataError(
            f"{path}: is a symbolic link, which is not followed in a folder of images. Put the file or folder itself"
            " there."
        )


def read_image_folder(folder: str | Path) -> Dataset:
    """Read images by class: ``folder/cat/1.png``, ``folder/dog/7.jpg``; all must have one size.

    Grey images give one channel; where any is coloured all give red, green and blue. An alpha channel is left out, a
    palette looked up.

    :param folder: holds a folder for each class, its name the class's, with images in it.
    :returns: "classification" data; ``x [N, channels * height * width]`` in 0..1, channel by channel, ``image_shape``
        ``(channels, height, width)``, classes in the order of their names, images in the order of classes and names.
    :raises DataError: fewer than two classes, symbolic links (the folder itself may be one), images of different sizes,
        files that are no images, are damaged, or say that they hold much more than images ever do; more than the memory
        holds.
    """
    directory = check_folder(folder)
    classes = class_folders(directory)
    if len(classes) < 2:
        raise DataError(
            f"{directory}: expected a folder for each of at least two classes, with PNG or JPEG files in it; found"
            f" {listed([c.name for c in classes]) if classes else 'none'}."
        )
    files = [image_files(entry) for entry in classes]
    each = [file for of_class in files for file in of_class]
    height, width, grey = _common_shape(each)
    shape = (1 if grey else 3, height, width)
    require_memory(
        "read_image_folder", 4 * 2 * len(each) * math.prod(shape), f"{len(each):,} images"
    )
    x = torch.empty(len(each), math.prod(shape))
    for row, file in enumerate(each):
        pixels = _pixels(file, grey)
        x[row] = torch.from_numpy(pixels).flatten()
    y = torch.repeat_interleave(torch.arange(len(files)), torch.tensor([len(f) for f in files]))
    names = pixel_names(("pixel",) if grey else ("red", "green", "blue"), height, width)
    with located(directory):
        labels = tuple(entry.name for entry in classes)
        return Dataset(x, y, names, "label", "classification", labels, shape)


def _common_shape(files: Sequence[Path]) -> tuple[int, int, bool]:
    """Height, width and whether all are grey, of headers alone."""
    sizes: dict[tuple[int, int], Path] = {}
    grey = True
    for file in files:
        width, height, mode = _header(file)
        sizes.setdefault((height, width), file)
        grey = grey and mode in _GREY
        if len(sizes) > 1:
            (one, first), (other, second) = sizes.items()
            raise DataError(
                f"{second}: all images must have one size; this one has {other[1]} x {other[0]} pixels, {first} has"
                f" {one[1]} x {one[0]}. Bring them to one size first."
            )
    return (*next(iter(sizes)), grey)


def _header(file: Path) -> tuple[int, int, str]:
    """Width, height and mode; nothing is unpacked."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            width, height = image.size
            mode = image.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: no PNG or JPEG image ({error}).") from error
    if max(width, height) > _LARGEST_SIDE:
        raise DataError(
            f"{file}: expected at most {_LARGEST_SIDE:,} pixels a side, found {width:,} x {height:,}. Bring the images"
            " to a size that networks take."
        )
    check_unpacked(file, 4 * width * height)
    return width, height, mode


def _pixels(file: Path, grey: bool) -> NDArray[np.float32]:
    """Values in 0..1, ``[channels, height, width]``."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            deep = image.mode.startswith("I")  # sixteen bits
            values = np.asarray(image if deep else image.convert("L" if grey else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{file}: the image is damaged ({error}); make or download it again."
        ) from error
    planes = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    if not grey and deep:  # Pillow's own conversion would cut them off at 255
        planes = planes.repeat(3, 0)
    return (planes / (65535 if deep else 255)).astype(np.float32)
