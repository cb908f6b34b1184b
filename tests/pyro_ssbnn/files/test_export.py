"""Exported networks give what the network gives, at every batch size; what differs is never left behind."""

import io
import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import pyro_ssbnn
from pyro_ssbnn import MLP, SSGHS, CategoricalLikelihood, StructuredGuide, prune
from pyro_ssbnn.errors import DataError, ExportError
from pyro_ssbnn.files import export
from pyro_ssbnn.files.export import export_onnx, to_exported_program
from pyro_ssbnn.files.rounding import rounding_tolerance

PREDICTORS = 6


def pruned(num_draws=None, input_inclusion=None, activation="silu", dtype=torch.float32):
    """A pruned network of three classes whose gates were set by hand."""
    torch.manual_seed(1)
    model = MLP(
        PREDICTORS,
        [7, 5],
        prior=SSGHS(inclusion=0.3),
        likelihood=CategoricalLikelihood(3),
        activation=activation,
        input_inclusion=input_inclusion,
    )
    guide = StructuredGuide(model).to(dtype)
    with torch.no_grad():
        for name, parameter in guide.named_parameters():
            if name.endswith("logits"):
                parameter.copy_(torch.tensor([1.0, -1.0]).repeat(4)[: len(parameter)])
            else:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return prune(model, guide, num_draws=num_draws).network


def run(file, x):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def metadata(file):
    return {entry.key: entry.value for entry in onnx.load(file).metadata_props}


CASES = {
    "mean": {},
    "mean-gates": {"input_inclusion": 0.5},
    "draws": {"num_draws": 4, "activation": "gelu"},
    # onnxruntime has no float64 kernels of some activations.
    "draws-gates-float64": {
        "num_draws": 4,
        "input_inclusion": 0.5,
        "activation": "tanh",
        "dtype": torch.float64,
    },
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_onnx_gives_what_the_network_gives(options, tmp_path):
    network, file = pruned(**options), tmp_path / "deep" / "net.onnx"
    done = export_onnx(network, file, notes={"source": "test"})
    onnx.checker.check_model(file, full_check=True)
    dtype = network.layers.hidden1.weight.dtype
    for rows in (1, 2, 7, 100):
        x = torch.randn(rows, PREDICTORS, dtype=dtype)
        expected, found = network(x), run(file, x)
        assert found.dtype == dtype
        assert found.shape == expected.shape
        assert ((found - expected).abs() <= rounding_tolerance(network, x)).all()
    assert done.path == file
    assert 0 <= done.largest_difference <= 1e-4
    assert done.largest_difference <= 100 * torch.finfo(dtype).eps
    found = metadata(file)
    assert found["package"] == "pyro_ssbnn"
    assert found["package_version"] == pyro_ssbnn.__version__
    kept = {"hidden1": [0, 2, 4, 6], "hidden2": [0, 2, 4]}
    if "input_inclusion" in options:
        kept["input"] = [0, 2, 4]
    assert json.loads(found["kept"]) == kept
    assert {k: v.tolist() for k, v in network.kept.items()} == {
        k: v for k, v in kept.items() if k != "input"
    }
    assert json.loads(found["config"]) == network.to_config()
    assert json.loads(found["notes"]) == {"source": "test"}


@pytest.fixture(scope="module")
def mean_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("onnx") / "net.onnx"
    export_onnx(pruned(), file)
    return file


def test_the_file_names_its_tensors_and_nothing_of_the_machine(mean_file):
    proto = onnx.load(mean_file)
    (x,), (f,) = proto.graph.input, proto.graph.output
    shapes = [[d.dim_param or d.dim_value for d in t.type.tensor_type.shape.dim] for t in (x, f)]
    assert [x.name, f.name] == ["x", "f"]
    assert shapes == [["batch", PREDICTORS], ["batch", 3]]
    content = mean_file.read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content
    assert b"softmax" in content  # the description of f
    assert [entry.name for entry in mean_file.parent.iterdir()] == [mean_file.name]


@pytest.fixture
def translated(mean_file, monkeypatch):
    """Skip torch's exporter: the same translation each time."""
    monkeypatch.setattr(export, "_to_onnx", lambda network, rows: onnx.load(mean_file))


@pytest.mark.usefixtures("translated")
class TestCheck:
    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda out: out + 1e-3, r"differs from the network's by 0\.001, where rounding"),
            (lambda out: out * float("nan"), "differs .* by nan"),
            (lambda out: out[:, :2], r"give outputs \[1, 3\], in onnxruntime \[1, 2\]"),
        ],
    )
    def test_another_output_leaves_no_file(self, spoil, words, tmp_path, monkeypatch):
        true = export._run_onnx
        monkeypatch.setattr(export, "_run_onnx", lambda file, x: spoil(true(file, x)))
        with pytest.raises(ExportError, match=f"{words}.*No file was written"):
            export_onnx(pruned(), tmp_path / "net.onnx")
        assert not list(tmp_path.iterdir())
        (tmp_path / "net.onnx").write_text("older", encoding="utf-8")
        with pytest.raises(ExportError):
            export_onnx(pruned(), tmp_path / "net.onnx")
        assert (tmp_path / "net.onnx").read_text(encoding="utf-8") == "older"

    def test_another_networks_translation_is_noticed(self, tmp_path):
        network = pruned()
        network.layers.hidden2.weight[0, 0] += 1e-3
        with pytest.raises(ExportError, match="differs"):
            export_onnx(network, tmp_path / "net.onnx")

    def test_it_is_made_at_the_rows_given(self, tmp_path, monkeypatch):
        rows, seen, true = torch.randn(5, PREDICTORS), [], export._run_onnx
        monkeypatch.setattr(export, "_run_onnx", lambda file, x: (seen.append(x), true(file, x))[1])
        export_onnx(pruned(), tmp_path / "net.onnx", rows)
        assert torch.equal(seen[0], rows[:1])
        assert torch.equal(seen[1], rows)

    def test_what_onnxruntime_cannot_run_is_told(self, tmp_path):
        network = pruned(dtype=torch.float64)  # the file holds float32
        with pytest.raises(ExportError, match=r"cannot run .* network\.float\(\)"):
            export_onnx(network, tmp_path / "net.onnx")
        assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ExportError, match=r'onnxscript cannot .* pip install "pyro_ssbnn\[export\]"'
    ):
        export_onnx(pruned(), tmp_path / "net.onnx")


def test_a_failing_exporter_is_named(tmp_path, monkeypatch):
    def fail(*arguments, dynamo, **options):
        raise AttributeError("module 'onnxscript' has no attribute 'apis'")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError, match=r"could not translate .* has no attribute 'apis'"):
        export_onnx(pruned(), tmp_path / "net.onnx")


def test_the_number_of_predictors_must_be_that_of_the_network():
    gated = pruned(input_inclusion=0.5)  # reads the predictors 0, 2, 4
    for network in (gated, pruned()):
        for size in (4, 8):
            with pytest.raises(DataError, match=rf"rows \[N, 6\]; got \[7, {size}\]"):
                to_exported_program(network, size)
    gated.num_inputs = None  # as in a file of an earlier version
    with pytest.raises(DataError, match="does not say among how many"):
        to_exported_program(gated)
    to_exported_program(gated, PREDICTORS)
    with pytest.raises(DataError, match=r"got \[0, 6\]"):
        to_exported_program(pruned(), torch.zeros(0, 6))
    with pytest.raises(ExportError, match=r"expected a pruned network.* got Linear"):
        to_exported_program(torch.nn.Linear(6, 3))


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_exported_program_gives_what_the_network_gives(options):
    network = pruned(**options)
    program = to_exported_program(network)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for rows in (1, 7):
        x = torch.randn(rows, PREDICTORS, dtype=network.layers.hidden1.weight.dtype)
        np.testing.assert_array_equal(program.module()(x), network(x))
        np.testing.assert_array_equal(loaded(x), network(x))
