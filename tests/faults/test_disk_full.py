"""A disk that is full: one clear message, no signal, and what was there before stays as it was."""

import os
import subprocess

import pytest

LONG_FORM = (pytest.mark.slow, pytest.mark.faults)

LITTLE = ("--hidden", "6", "--epochs", "20", "--draws", "10", "--no-progress", "--compile", "off")


@pytest.fixture
def disk(tmp_path):
    """Mount a small file system of its own; only root may."""
    mounted = []

    def mount(kilobytes):
        folder = tmp_path / f"disk{kilobytes}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if os.name != "posix" or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no file system may be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


SIZES = (16, 24, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512)


@pytest.mark.parametrize("sizes", [(64,), pytest.param(SIZES, marks=LONG_FORM)], ids=len)
def test_a_full_disk_is_told_and_harms_nothing(call, disk, table, sizes, tell):
    codes = {0: 0, 2: 0, 3: 0}
    for kilobytes in sizes:
        folder = disk(kilobytes)
        note = folder / "note.txt"
        note.write_text("here before")
        run = folder / "run"
        ended = call("fit", table, "--target", "y", *LITTLE, "--out", run, codes=codes)
        codes[ended.code] += 1
        assert note.read_text() == "here before"
        assert [p for p in folder.rglob(".*") if p.name != ".lock"] == []
        if ended.code:
            assert "No space left" in ended.output or "space" in ended.output, ended
            subprocess.run(["mount", "-o", "remount,size=8m", str(folder)], check=True)
        if ended.code == 3:
            call("finish", run, codes=(0,))
            assert {p.name for p in run.iterdir()} >= {"posterior.nc", "metrics.json", "plots"}
            assert not (run / "unfinished.json").exists()
        elif (run / "unfinished.json").exists():
            call("fit", "--resume", run, "--no-progress", codes=(0,))
    tell(
        f"disk full at {len(sizes)} sizes, {sizes[0]} to {sizes[-1]} kB: {codes[2]} errors before or in training,"
        f" {codes[3]} fits saved with products missing and finished later, {codes[0]} complete; no signal"
    )
