"""Bytes that anyone may have written: bounded, and refused by name."""

import gzip
import json
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CheckpointError, DataError
from pyro_ssbnn.files import untrusted
from pyro_ssbnn.files.untrusted import check_numbers, entry, parse_json, read_json, unpacked

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    net = ss.MLP(3, [6], prior=ss.SSGHS(inclusion=0.5), likelihood=ss.GaussianLikelihood())
    options = ss.TrainingOptions(epochs=2, compile=False)
    path = tmp_path_factory.mktemp("saved") / "fit.safetensors"
    ss.save_fit(ss.fit(net, X, X[:, 0], options, progress=False), path)
    return path


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[" * 100_000, "JSON"),
        ("[" * 42 + "]" * 42, "deeper than 40"),
        ("9" * 5_000, "5,000 digits"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ("{", "not readable"),
        (b"\xff\xfe", "not readable"),
        ("", "not readable"),
    ],
)
def test_json_that_harms_is_refused(text, word, tmp_path):
    with pytest.raises(CheckpointError, match=word) as told:
        parse_json(text, "config.json")
    assert str(told.value).startswith("config.json: ")
    assert len(str(told.value)) < 500


def test_json_as_it_is_written_is_read(tmp_path):
    value = {"a": [1, -2.5e-300, "[[[[" * 50, None, True, {"b": 2**64}]}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value


def test_long_json_is_not_even_read(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "_MOST_JSON", 100)
    (tmp_path / "a.json").write_text("[" + " " * 100 + "]")
    with pytest.raises(CheckpointError, match="102 bytes of JSON"):
        read_json(tmp_path / "a.json")


def test_entries_are_of_their_kind():
    assert entry({"n": 3}, "n", int, "f") == 3
    for record, kind, word in [
        ([], int, "expected a record, found a list"),
        ({}, int, "'n' is missing"),
        ({"n": "3"}, int, "should be a whole number, and is a text"),
        ({"n": True}, int, "should be a whole number, and is true or false"),
        ({"n": None}, (dict, list), "should be a record or a list, and is null"),
    ]:
        with pytest.raises(CheckpointError, match=word):
            entry(record, "n", kind, "f")


def test_numbers_are_compared_with_the_file():
    check_numbers({"hidden": [400, 400], "names": ["a"], "p": 0.5, "s": "x" * 1000}, 400, "f")
    for record in ({"hidden": [10**6] * 3}, {"a": {"b": -401}}, [0] * 401, 10**4000):
        with pytest.raises(CheckpointError, match="400 values"):
            check_numbers(record, 400, "f")


def rewritten(path, out, change):
    """The file with another header."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["header"])
    change(header, tensors)
    save_file(tensors, out, {**metadata, "header": json.dumps(header)})
    return out


CHANGES = {
    "huge layers": (lambda h, t: h["network"].update(hidden=[10**6] * 3), "1000000 members"),
    "many layers": (lambda h, t: h["network"].update(hidden=[1] * 20_000), "20000 members"),
    "a wide layer": (lambda h, t: h["network"].update(hidden=[9_000]), "has 45,001 weights"),
    "no options": (lambda h, t: h.pop("options"), "'options' is missing"),
    "options are a list": (lambda h, t: h.update(options=[1]), "'options' should be a record"),
    "unknown optimizer": (lambda h, t: h["options"].update(optimizer="x"), "optimizer must be"),
    "unknown option": (lambda h, t: h["options"].update(x=1), "does not know: x"),
    "rates are words": (lambda h, t: h["options"].update(mean_rate="fast"), "cannot be made again"),
    "history is a list": (lambda h, t: h.update(history=[]), "'history' should be a record"),
    "rows of words": (lambda h, t: h["history"].update(kl=["a", "b"]), "cannot be made again"),
    "rows missing": (lambda h, t: h["history"]["kl"].pop(), "not equally many"),
    "removed members": (
        lambda h, t: h.update(removed=[["hidden1", 99, 1, 0.1]]),
        "another network",
    ),
    "guide of words": (lambda h, t: h.update(guide="x"), "guide"),
    "unknown guide": (lambda h, t: h["guide"].update(name="x"), "expected one of"),
    "NaN": (lambda h, t: t["guide.hidden1.weight.loc"].fill_(torch.nan), "not finite"),
    "other groups": (lambda h, t: h["optimizer_groups"].pop(), "another guide"),
    "random numbers": (lambda h, t: t.update({"random.cpu": torch.zeros(3)}), "random numbers"),
    "slots": (lambda h, t: t.update({"optimizer.x.y.z": torch.zeros(3)}), "cannot be made again"),
    "rows": (lambda h, t: h.update(num_data="many"), "should be a whole number"),
    "start": (lambda h, t: h.update(start=[]), "cannot be made again"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_tampered_fit_is_refused_by_name(saved, tmp_path, name):
    change, word = CHANGES[name]
    path = rewritten(saved, tmp_path / "fit.safetensors", change)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=word) as told:
        ss.load_fit(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in str(told.value)
    assert most < 30e6


def test_gzip_data_of_several_streams_and_cut_ones():
    data = np.random.default_rng(0).integers(0, 9, 100_000).astype(np.uint8).tobytes()
    packed = gzip.compress(data[:60_000]) + gzip.compress(data[60_000:])
    assert unpacked(packed) == (data, True)
    part, whole = unpacked(packed[:-9])
    assert data.startswith(part)
    assert not whole
    many = gzip.compress(b"") * 20_000  # each could cost a copy of all that follow
    assert unpacked(many) == (b"", True)


def test_a_gzip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(untrusted, "_UNPACKED_FREELY", 1 << 20)
    bomb = bytes([0, 0, 8, 1]) + (100 << 20).to_bytes(4, "big") + bytes(100 << 20)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bomb, 1))
    del bomb
    tracemalloc.start()
    with pytest.raises(DataError, match=r"ubyte\.gz: a packed file .* holds more than .* bytes"):
        ss.data.read_idx(tmp_path / "train-images-idx3-ubyte.gz")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 60e6
