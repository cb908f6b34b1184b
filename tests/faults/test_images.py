"""Folders of images and of UCI sets that anything may have been done to: each is fitted, or refused in words."""

import gzip
import random
import shutil
import struct

import numpy as np
import pytest

LONG_FORM = (pytest.mark.slow, pytest.mark.faults)

RECORD = 3073  # bytes of an image of CIFAR-10


def idx(values, kind=8):
    head = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.astype(np.uint8).tobytes()


def some_folder(folder, generator):
    """Write a small set in one of the three layouts."""
    rng = np.random.default_rng(generator.randrange(2**32))
    kind = generator.choice(("idx", "idx", "cifar", "uci"))
    folder.mkdir()
    if kind == "idx":
        side = generator.choice((1, 3, 4, 4))
        for prefix, count in (("train", 24), ("t10k", 8)):
            labels = np.arange(count) % 2
            images = rng.integers(0, 256, (count, side, side))
            (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
            (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
        if generator.random() < 0.3:
            for file in folder.glob("t10k*"):
                file.unlink()
    elif kind == "cifar":
        for name, count in (
            ("data_batch_1.bin", 8),
            ("data_batch_2.bin", 6),
            ("test_batch.bin", 6),
        ):
            records = rng.integers(0, 256, (count, RECORD), dtype=np.uint8)
            records[:, 0] = np.arange(count) % generator.choice((2, 10))
            (folder / name).write_bytes(records.tobytes())
    else:
        table = rng.normal(size=(30, 4))
        np.savetxt(folder / "data.txt", table, fmt="%.4f")
        (folder / "index_features.txt").write_text("0\n1\n2\n")
        (folder / "index_target.txt").write_text("3\n")
        (folder / "index_train_0.txt").write_text("\n".join(map(str, range(24))))
        (folder / "index_test_0.txt").write_text("\n".join(map(str, range(24, 30))))
        (folder / "n_splits.txt").write_text("1\n")


def damage(folder, generator):
    """Do something to one of the files; returns what."""
    file = generator.choice(sorted(folder.iterdir()))
    if not file.is_file():
        return
    data = file.read_bytes()
    at = generator.randrange(len(data)) if data else 0
    what = generator.choice(
        (
            *("cut", "cut", "head", "head", "head", "noise", "longer", "empty", "gone", "folder"),
            *("gzip", "cut gzip", "broken gzip", "bomb", "twice", "link", "name", "text", "labels"),
        )
    )
    changed = {
        "cut": lambda: data[:at],
        "head": lambda: _other_head(data, generator),
        "noise": lambda: data[:at] + generator.randbytes(9) + data[at + 9 :],
        "longer": lambda: data + bytes(generator.choice((1, 100, RECORD))),
        "empty": lambda: b"",
        "gzip": lambda: gzip.compress(data),
        "cut gzip": lambda: gzip.compress(data)[: at + 1],
        "broken gzip": lambda: gzip.compress(data)[:-9] + generator.randbytes(9),
        "bomb": lambda: gzip.compress(data + bytes(400 << 20), 1),
        "twice": lambda: gzip.compress(gzip.compress(data)),
        "text": lambda: b"<html>404</html>" * 3,
        "labels": lambda: idx(np.zeros(24)),
    }
    if what in changed:
        file.write_bytes(changed[what]())
    elif what == "link":
        file.rename(folder.parent / "elsewhere")
        file.symlink_to(generator.choice((folder.parent / "elsewhere", "/dev/zero", "/nowhere")))
    else:
        file.unlink()
        if what == "folder":
            file.mkdir()
        elif what == "name":
            (folder / f"{file.name}.gz").write_bytes(data)


def _other_head(data, generator):
    """The first bytes of an IDX file, or of text, as they should not be."""
    if not data.startswith(b"\0\0"):
        return generator.choice((b"255", b"nan ", b"1e400 ", b"-1\n", b"1.5\n")) + data
    rank = generator.choice((0, 1, 2, 3, 4, 200, 255))
    sizes = [generator.choice((0, 1, 4, 24, 2**31, 2**32 - 1)) for _ in range(min(rank, 5))]
    return (
        bytes([0, 0, generator.choice((8, 8, 8, 9, 13)), rank])
        + struct.pack(f">{len(sizes)}I", *sizes)
        + data[generator.choice((8, 16)) :]
    )


@pytest.mark.parametrize("number", [3, pytest.param(150, marks=LONG_FORM)])
def test_any_folder_is_fitted_or_refused(call, tiny, tmp_path, number, tell):
    generator = random.Random(7)
    refused, largest, longest = 0, 0.0, 0.0
    for at in range(number):
        place = tmp_path / f"{at}"
        place.mkdir()
        folder = place / "images"
        some_folder(folder, generator)
        for _ in range(generator.choice((0, 1, 1, 1, 2))):
            damage(folder, generator)
        split = ["--split", generator.choice((0, 0, 1, -1))] if generator.random() < 0.1 else []
        ended = call(
            "fit", folder, *split, *tiny, "--out", place / "run", plots=at % 8 == 0, seconds=30
        )
        if ended.code == 2:
            refused += 1
            told = ended.output.partition("Error:")[2]
            assert "images" in told or "--" in told, told
            assert len(told) < 2_000, told
            assert not (place / "run").exists()
        # What is unpacked is bounded by 256 MB, which are held once in pieces and once as a whole.
        largest, longest = max(largest, ended.memory), max(longest, ended.seconds)
        shutil.rmtree(place)
    assert largest < 700 << 20
    assert number / 5 < refused < number
    tell(
        f"{number} folders of images and UCI sets (seed 7): {refused} refused, no traceback, at most"
        f" {largest / 1e6:.0f} MB and {longest:.1f} s of CPU time taken"
    )
