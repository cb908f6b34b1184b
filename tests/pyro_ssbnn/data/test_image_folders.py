"""PNG and JPEG images by class: read as they are, or refused in words."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_ssbnn.data import read_image_folder
from pyro_ssbnn.errors import DataError


def write(file, values, mode=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values))
    (image if mode is None else image.convert(mode)).save(file)


@pytest.fixture
def grey(tmp_path):
    """Two classes of 3 x 2 pixels."""
    for number, (kind, file) in enumerate((("b", "2"), ("b", "1"), ("a", "7"))):
        values = (np.arange(6, dtype=np.uint8) + 10 * number).reshape(2, 3)
        write(tmp_path / kind / f"{file}.png", values)
    (tmp_path / "notes").mkdir()  # no class: no image in it
    (tmp_path / "a" / "notes.txt").write_text("no image")
    return tmp_path


def test_classes_and_images_come_by_name(grey):
    data = read_image_folder(grey)
    assert data.class_names == ("a", "b")
    assert data.image_shape == (1, 2, 3)
    assert data.y.tolist() == [0, 1, 1]
    first = (torch.arange(6) + torch.tensor([[20], [10], [0]])) / 255
    assert torch.allclose(data.x, first)
    assert data.feature_names[4] == "pixel[1,1]"


def test_one_coloured_image_makes_all_coloured(grey):
    colours = np.zeros((2, 3, 3), dtype=np.uint8)
    colours[..., 0], colours[..., 2] = 255, 51
    write(grey / "a" / "8.png", colours)
    write(grey / "a" / "9.png", colours, "P")  # a palette
    data = read_image_folder(grey)
    assert data.image_shape == (3, 2, 3)
    red, green, blue = data.x[1].reshape(3, 6)
    assert (red == 1).all()
    assert (green == 0).all()
    assert torch.allclose(blue, torch.tensor(0.2))
    assert torch.equal(data.x[0].reshape(3, 6)[0], data.x[0].reshape(3, 6)[2])  # grey
    assert torch.allclose(data.x[1], data.x[2], atol=0.02)


def test_sixteen_bits_beside_a_coloured_image(grey):
    write(grey / "a" / "8.png", np.zeros((2, 3, 3), dtype=np.uint8))
    write(grey / "a" / "9.png", np.full((2, 3), 13107, dtype=np.uint16))  # a fifth of 65535
    data = read_image_folder(grey)
    assert data.image_shape == (3, 2, 3)
    assert torch.allclose(data.x[2], torch.tensor(0.2))


def test_sixteen_bits_and_jpeg(grey):
    write(grey / "b" / "3.png", np.full((2, 3), 65535, dtype=np.uint16))
    write(grey / "b" / "4.JPG", np.full((2, 3), 128, dtype=np.uint8))
    data = read_image_folder(grey)
    assert torch.equal(data.x[3], torch.ones(6))
    assert torch.allclose(data.x[4], torch.tensor(128 / 255), atol=0.01)


def test_another_size_is_named(grey):
    write(grey / "b" / "9.png", np.zeros((4, 5), dtype=np.uint8))
    with pytest.raises(
        DataError, match=r"b.9\.png: all images must have one size; this one has 5 x 4"
    ):
        read_image_folder(grey)


def test_one_class_is_none(grey):
    (grey / "a" / "7.png").unlink()
    with pytest.raises(DataError, match="at least two classes"):
        read_image_folder(grey)
    with pytest.raises(DataError, match="this folder does not exist"):
        read_image_folder(grey / "nowhere")


@pytest.mark.parametrize("cut", [0, 3, 40])
def test_damaged_files_are_named(grey, cut):
    file = grey / "b" / "1.png"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"1\.png"):
        read_image_folder(grey)


def test_another_format_in_disguise(grey):
    buffer = io.BytesIO()
    Image.new("L", (3, 2)).save(buffer, "BMP")
    (grey / "b" / "1.png").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="no PNG or JPEG image"):
        read_image_folder(grey)


def png(width, height):
    """A small file that says that it is a large image."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [5_000, 100_000])
def test_bombs_are_not_unpacked(grey, side):
    (grey / "a" / "7.png").write_bytes(png(side, side))
    with pytest.raises(DataError, match=r"7\.png"):
        read_image_folder(grey)


@pytest.mark.parametrize("what", ["a/7.png", "a"])
def test_links_are_told_and_not_followed(grey, tmp_path_factory, what):
    """Within the folder; the folder itself may be reached by one."""
    link = tmp_path_factory.mktemp("links") / "all"
    link.symlink_to(grey)
    assert len(read_image_folder(link).x) == 3
    elsewhere = link.with_name("elsewhere")
    (grey / what).rename(elsewhere)
    (grey / what).symlink_to(elsewhere)
    with pytest.raises(DataError, match=rf"{what}: is a symbolic link, which is not followed"):
        read_image_folder(grey)
