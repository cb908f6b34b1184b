"""The script of the results on images runs from files to figures, on data made here."""

import importlib.util
import json
import struct
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CollapseWarning

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def reproduce(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("reproduce", FOLDER / "reproduce.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reproduce", module)
    spec.loader.exec_module(module)
    return module


def striped(n, size, seed):
    """Noisy images of ten kinds (which row is bright), and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    images = torch.randint(0, 60, (n, size, size), generator=generator)
    images[torch.arange(n), 2 * labels + 4] = 250
    return images, labels


def write_idx(path, values):
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.to(torch.uint8).numpy().tobytes())


@pytest.fixture
def mnist(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for prefix, rows, seed in (("train", 400, 0), ("t10k", 100, 1)):
        images, labels = striped(rows, 28, seed)
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture
def cifar(tmp_path):
    folder = tmp_path / "cifar"
    folder.mkdir()
    for name, rows, seed in (("data_batch_1", 200, 0), ("test_batch", 60, 1)):
        images, labels = striped(rows, 32, seed)
        planes = images.flatten(1).repeat(1, 3)
        records = torch.cat([labels[:, None], planes], 1).to(torch.uint8)
        (folder / f"{name}.bin").write_bytes(records.numpy().tobytes())
    return folder


def run(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *map(str, arguments)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        module.main()


def small(module, monkeypatch, name, network, **options):
    task = module.TASKS[name]
    shortened = {**task.options, **options, "compile": False}
    monkeypatch.setitem(module.TASKS, name, replace(task, network=network, options=shortened))


def test_a_row_of_digits(reproduce, monkeypatch, mnist, cifar, tmp_path, capsys):
    small(reproduce, monkeypatch, "mlp-mnist", lambda **o: ss.MLP(784, [12, 8], **o), batch_size=40)
    out = tmp_path / "row.json"
    run(
        reproduce,
        monkeypatch,
        *("--task", "mlp-mnist", "--prior", "ss-gl", "--data", mnist, "--other-data", cifar),
        *("--epochs", 15, "--train-rows", 300, "--repeats", 1, "--warm-start", 5),
        *("--json", out, "--plots", tmp_path / "plots", "--save", tmp_path / "fit.safetensors"),
    )
    record = json.loads(out.read_text())
    assert record["train_rows"] == 300
    assert record["pruned_mean"]["accuracy"] > 0.9  # a bright row is easily seen
    assert record["nodes"] == {"hidden1": 12, "hidden2": 8, "output": 10}
    assert record["weights"] == 12 * 785 + 8 * 13 + 10 * 9
    kept = record["nodes_kept"]
    assert record["weights_kept"] == (
        kept["hidden1"] * 785 + kept["hidden2"] * (kept["hidden1"] + 1) + 10 * (kept["hidden2"] + 1)
    )
    assert record["pruned_minus_masked"] < 1e-10
    kinds = {"rotated by 90 degrees", "permuted pixels", "CIFAR-10, grey, centre"}
    for name in ("pruned_draws", "pruned_mean", "posterior"):
        assert record[name]["ood_auroc"].keys() == kinds
        assert record[name]["epistemic"] >= (0 if name == "pruned_mean" else 1e-6)
    assert record["pruned_mean"]["epistemic"] == pytest.approx(0, abs=1e-12)
    assert {row["batch_size"] for row in record["latency"]} == set(reproduce.BATCH_SIZES)
    assert ss.load_fit(tmp_path / "fit.safetensors").model.to_config() == record["network"]
    assert len(list((tmp_path / "plots").iterdir())) == 3
    assert "| mlp-mnist | ss-gl | 0 |" in capsys.readouterr().out
    import reproduce_plots

    figure = reproduce_plots.draw_accuracy([record])
    assert figure.axes[0].get_title() == "mlp-mnist"


def test_a_row_of_colour_images_with_fine_tuning(reproduce, monkeypatch, mnist, cifar, tmp_path):
    """The recipe of the residual networks, on a small network in their place."""

    def network(**options):
        return ss.LeNet((3, 32, 32), [4], [8], kernel_size=5, **options)

    options = {"batch_size": 40, "mean_rate": 0.01, "clip_norm": 1.0}
    small(reproduce, monkeypatch, "resnet20-cifar10", network, **options)
    out = tmp_path / "row.json"
    run(
        reproduce,
        monkeypatch,
        *("--task", "resnet20-cifar10", "--data", cifar, "--other-data", mnist, "--epochs", 2),
        *("--repeats", 0, "--json", out, "--test-rows", 40),
    )
    record = json.loads(out.read_text())
    assert record["test_rows"] == 40
    assert record["posterior"]["ood_auroc"].keys() == {"uniform noise", "MNIST, padded"}
    assert record["options"]["optimizer"] == "sgd"
    assert record["pruned_minus_masked"] < 1e-10
    assert record["options"]["mean_rate"] == 0.01
    assert record["fine_tuning"]["options"]["remove_below"] is None  # nothing is removed any more
    for stage in record, record["fine_tuning"]:
        assert len(stage["epoch_elbo"]) == len(stage["epoch_log_likelihood"]) == 2
    assert "latency" not in record


def test_colours_are_standardised_by_the_training_images(reproduce, cifar):
    data, ready = reproduce.read_images(
        replace(reproduce.TASKS["resnet20-cifar10"], train_rows=100), cifar
    )
    planes = data["x"].unflatten(1, (3, -1))
    assert len(planes) == 100
    torch.testing.assert_close(planes.mean((0, 2)), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(planes.std((0, 2)), torch.ones(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(ready(data["raw_test"]), data["x_test"])


def test_held_out_images_stand_in_for_the_test_half(reproduce, mnist):
    task = reproduce.TASKS["lenet-mnist"]
    whole, _ = reproduce.read_images(task, mnist)
    for file in mnist.glob("t10k*"):
        file.unlink()  # not read
    split, _ = reproduce.read_images(task, mnist, hold_out=100)
    for name in "x", "y":
        joined = torch.cat([split[name], split[f"{name}_test"]])
        assert len(split[f"{name}_test"]) == 100
        assert torch.equal(joined, whole[name])
    with pytest.raises(ValueError, match=r"at most the 400 training images.*got 100 and 301"):
        reproduce.read_images(replace(task, train_rows=301), mnist, 100)


def test_digits_are_scaled_as_published(reproduce, mnist):
    data, _ = reproduce.read_images(reproduce.TASKS["lenet-mnist"], mnist)
    assert data["x"].max() == pytest.approx(250 / 126)
    turned = reproduce.foreign_images((1, 28, 28), data["raw_test"], None)
    first = data["raw_test"][0].reshape(28, 28)
    assert torch.equal(turned["rotated by 90 degrees"][0].reshape(28, 28), first.rot90())
    assert torch.equal(turned["permuted pixels"].sort(1).values, data["raw_test"].sort(1).values)
