"""``pyro-ssbnn compress``: a trained LeNet in, a smaller one out."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import pyro_ssbnn as ss
from pyro_ssbnn.compression.known import known_module

FEW = ("--epochs", "2", "--batch-size", "16", "--no-progress")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Images of two classes, and the weights of a network that tells them apart."""
    folder = tmp_path_factory.mktemp("stripes")
    generator = np.random.default_rng(0)
    for kind, axis in (("across", 0), ("down", 1)):
        for number in range(24):
            image = np.where(np.arange(16) % 4 < 2, 40, 215) + np.zeros((16, 16))
            image = np.moveaxis(image, 1, axis) + generator.normal(0, 20, (16, 16))
            file = folder / "images" / kind / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(file)
    torch.manual_seed(0)
    module = known_module("lenet", (1, 16, 16), 2)
    data = ss.data.read_image_folder(folder / "images")
    x, y = (data.x.unflatten(1, data.image_shape) - 0.5) / 0.25, data.y
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    for _ in range(15):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    assert (module(x).argmax(1) == y).all()
    save_file(module.state_dict(), folder / "lenet.safetensors")
    return folder


def arguments(folder, *more):
    how = ("--network", "lenet", "--weights", folder / "lenet.safetensors", "--mean", "0.5")
    return ("compress", folder / "images", *how, "--sd", "0.25", *FEW, *more)


def test_smaller_network(invoke, trained, tmp_path):
    out = tmp_path / "small.safetensors"
    done = invoke(*arguments(trained, "--multiply-adds", "0.25", "--out", out))
    assert done.exit_code == 0, done.output
    network = ss.load_compact(out)
    work = sum(
        (layer.weight[0].numel() + 1) * len(layer.weight) * positions
        for layer, positions in zip(network.layers.values(), (144, 4, 1, 1, 1), strict=True)
    )
    whole = 520 * 144 + 50 * 501 * 4 + 800 * 51 + 500 * 801 + 2 * 501  # map sides 12, then 2
    assert 0 < work <= 0.25 * whole
    table = pd.read_csv(out.with_suffix(".csv"))
    assert len(table) == 5
    assert "Right in 100.00% of 10 test rows before" in " ".join(done.output.split())


def test_refusals(invoke, trained, table, tmp_path):
    out = ("--out", tmp_path / "small.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(3)}, other)
    for changed, words in (
        (("--weights", other), "another network"),
        (("--weights", trained / "images" / "down" / "1.png"), "no file of weights"),
        (("--mean", "1,2,3"), "one a channel"),
        (("--nodes", "3", "--latency", "1"), "give one target"),
    ):
        result = invoke(*arguments(trained, *changed, *out))
        assert result.exit_code != 0
        assert words in " ".join(result.output.split())
    weights = ("--weights", trained / "lenet.safetensors")
    result = invoke("compress", "diabetes", "--network", "lenet", *weights, *out)
    assert "is for images" in " ".join(result.output.split())
