"""Networks of images, and folders of images, from fit to predictions."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import pyro_ssbnn as ss
from pyro_ssbnn.cli.formats import checksums, detect
from pyro_ssbnn.cli.kinds import Format, NetworkKind, PriorName
from pyro_ssbnn.cli.networks import NetworkChoice, build_network
from pyro_ssbnn.data import Dataset, Preprocessing
from pyro_ssbnn.data.images import pixel_names
from pyro_ssbnn.errors import DataError

FEW = ("--epochs", "2", "--draws", "4", "--no-progress")


def write_images(folder, count, generator, side=8):
    """Dark images of one class, bright ones of another."""
    for kind, mean in (("dark", 60), ("light", 180)):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            values = generator.normal(mean, 20, (side, side, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(values).save(folder / kind / f"{number}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    write_images(folder / "train", 12, generator)
    write_images(folder / "test", 4, generator)
    return folder


def test_folder_of_images(invoke, pictures, tmp_path):
    run = tmp_path / "run"
    fitted = invoke("fit", pictures, "--hidden", "4", *FEW, "--out", run)
    assert fitted.exit_code == 0, fitted.output
    assert "Found" in fitted.output
    assert "carry no gates" not in fitted.output  # nobody asks that of pixels
    config = json.loads((run / "config.json").read_text())
    assert config["source"]["format"] == "images"
    assert config["source"]["rows"] == {"train": 24, "test": 8}
    assert list(config["source"]["sha256"]) == ["all images"]
    assert config["network"]["network"] == "mlp"
    out = tmp_path / "predictions.csv"
    assert invoke("predict", run, pictures / "test", "--out", out).exit_code == 0
    assert {"dark", "light"} == set(pd.read_csv(out)["observed"])


def test_images_are_found_whatever_the_case_of_their_ending(pictures, tmp_path):
    for kind in ("dark", "light"):
        (tmp_path / kind).mkdir()
        shutil.copy(pictures / "test" / kind / "0.png", tmp_path / kind / "0.Png")
    assert detect(str(tmp_path)) is Format.images
    for file in tmp_path.rglob("*.Png"):
        file.rename(file.with_suffix(".JpEg"))
    assert detect(str(tmp_path)) is Format.images


def test_a_half_that_is_a_link_is_told(invoke, pictures, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "train").symlink_to(pictures / "train")
    result = invoke("fit", tmp_path / "images", *FEW, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "is a symbolic link, which is not followed" in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("network", "options", "layers"),
    [
        ("lenet", ("--hidden", "6"), 4),
        # Bars for twenty layers take most of it.
        pytest.param("resnet20", ("--batch-size", "24"), 20, marks=pytest.mark.slow),
    ],
)
def test_networks_of_images(invoke, pictures, tmp_path, network, options, layers):
    source, run = pictures, tmp_path / "run"
    if network == "lenet":  # its convolutions need room
        source = tmp_path / "larger"
        write_images(source, 10, np.random.default_rng(1), side=16)
    fitted = invoke("fit", source, "--network", network, *options, *FEW, "--out", run)
    assert fitted.exit_code == 0, fitted.output
    model = ss.load_fit(run / "fit.safetensors").model
    assert len(model.description.groups) == layers
    assert invoke("summary", run).exit_code == 0
    out = tmp_path / "predictions.csv"
    half = source / "test" if network != "lenet" else source
    predicted = invoke("predict", run, half, "--network", "pruned", "--out", out)
    assert predicted.exit_code == 0, predicted.output


@pytest.mark.parametrize(
    ("network", "weights"),
    [("resnet20", 268_346), ("resnet32", 461_882), ("wrn28-10", 36_202_682)],
)
def test_residual_networks(network, weights):
    """They have as many weights as is usual to count."""
    choice = NetworkChoice(None, None, PriorName.ss_ig, network=NetworkKind(network))
    shape = (3, 32, 32)
    x, y = torch.rand(10, 3072), torch.arange(10)
    data = Dataset(x, y, pixel_names(("r", "g", "b"), 32, 32), "label", "classification", (), shape)
    model = build_network(choice, Preprocessing.fit(data), y)
    assert model.description.num_weights == weights
    assert model.activation == "relu"


def test_the_digest_is_of_all_images_that_are_read(tmp_path):
    images, linked = tmp_path / "images", tmp_path / "linked"
    linked.mkdir()
    for kind in "ab":
        (images / kind).mkdir(parents=True)
        (images / kind / "1.Png").write_bytes(b"one")
        (linked / kind).symlink_to(images / kind)
    before = checksums(images, Format.images)
    (images / "a" / "1.Png").write_bytes(b"other")
    assert checksums(images, Format.images) != before
    with pytest.raises(DataError, match="symbolic link"):
        checksums(linked, Format.images)


def test_options_that_do_not_suit(invoke, table, pictures, tmp_path):
    out = ("--out", tmp_path / "run")
    for source, options, words in (
        (table, ("--target", "price", "--network", "lenet"), "is for images"),
        (pictures, ("--network", "resnet20", "--hidden", "8"), "--hidden is not for"),
        (pictures, ("--network", "lenet", "--input-gates"), "--input-gates is not for"),
    ):
        result = invoke("fit", source, *options, *FEW, *out)
        assert result.exit_code != 0
        assert words in " ".join(result.output.split())
