"""Networks of modules in files that anyone may have written: no code is run, and what does not fit is refused."""

import json
import tracemalloc

import pytest
import torch
from modules import made
from safetensors import safe_open
from safetensors.torch import save_file

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CheckpointError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    module, x = made("Transformer")
    module, x = module.float(), x.float()
    network = ss.from_module(
        module, prior=ss.SSIG(), likelihood=ss.CategoricalLikelihood(3), example=x
    )
    options = ss.TrainingOptions(epochs=1, compile=False)
    result = ss.fit(network, x.flatten(1), torch.arange(5) % 3, options, progress=False)
    folder = tmp_path_factory.mktemp("saved")
    ss.save_fit(result, folder / "fit")
    every = {name: len(p) for name, p in result.guide.inclusion().items()}
    selection = ss.select(result.guide.inclusion(), nodes=every)
    pruned = ss.prune(result.model, result.guide, selection)
    ss.save_compact(pruned.network, folder / "compact")
    return folder


def rewritten(source, target, change):
    """A copy whose steps, by name, were changed."""
    with safe_open(source, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["header"])
    record = header["network"] if "network" in header else header["compact"]["shape"]
    change(record, {step["name"]: step for step in record["steps"]})
    save_file(tensors, target, {**metadata, "header": json.dumps(header)})
    return target


CHANGES = {
    "unknown operation": lambda r, s: s["norm"]["does"].update(op="os.system"),
    "unknown function": lambda r, s: s["encoder_0_narrow_1"]["does"].update(function="eval"),
    "options of no function": lambda r, s: s["encoder_0_narrow_1"]["does"]["options"].update(x=1),
    "a step that there is not": lambda r, s: s["norm"].update(of=["__class__"]),
    "no step": lambda r, s: r.update(steps=[]),
    "another step's name": lambda r, s: s["norm"].update(name="wire"),
    "another reshape": lambda r, s: s["reshape"]["does"].update(shape=[7, 7]),
    "words": lambda r, s: s["patches"]["does"].update(dims="two"),
}


@pytest.mark.parametrize("kind", ["fit", "compact"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_tampered_network_is_refused(saved, tmp_path, name, kind):
    path = rewritten(saved / kind, tmp_path / kind, CHANGES[name])
    load = {"fit": ss.load_fit, "compact": ss.load_compact}[kind]
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=str(path)):
        load(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30e6


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (
            lambda r, s: s["patches"]["does"]["geometry"].update(kernel_size=[2, 2, 2]),
            "the network",
        ),
        (lambda r, s: s["norm"]["does"].update(over=[8]), "the network"),
        (lambda r, s: s["norm"]["does"].update(over=[9000, 9000, 9000]), "network"),
        (lambda r, s: r.update(input_shape=[9000] * 3), "input_shape: speaks of 729000000000"),
    ],
)
def test_sizes_that_the_file_does_not_hold_are_refused(saved, tmp_path, change, word):
    path = rewritten(saved / "fit", tmp_path / "fit", change)
    with pytest.raises(CheckpointError, match=word):
        ss.load_fit(path)
