"""Exported image networks give what the networks give: LeNet, and a ResNet with closed blocks."""

import json

import onnx
import onnxruntime
import pytest
import torch

from pyro_ssbnn import SSGHS, CategoricalLikelihood, LeNet, ResNet, StructuredGuide, prune, select
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.files.export import export_onnx, to_exported_program
from pyro_ssbnn.files.rounding import rounding_tolerance

SHAPE, PIXELS = (2, 8, 7), 112
NETWORKS = {
    "lenet": lambda **o: LeNet(SHAPE, (4,), (5,), kernel_size=3, **o),
    "resnet": lambda **o: ResNet(SHAPE, 14, widths=(3, 4, 6), **o),
}


@pytest.fixture(params=[("lenet", None), ("lenet", 3), ("resnet", None), ("resnet", 3)], ids=str)
def network(request):
    kind, num_draws = request.param
    model = NETWORKS[kind](prior=SSGHS(inclusion=0.3), likelihood=CategoricalLikelihood(3))
    guide = StructuredGuide(model)
    inclusion = {k: torch.rand(len(v)) for k, v in guide.inclusion().items()}
    for name in ("stage1_block2_conv1", "stage2_block1_conv2"):
        if name in inclusion:
            inclusion[name] = inclusion[name] * 0.0
    inclusion = {
        k: v.index_fill(0, torch.tensor(0), 0.9) if v.any() else v for k, v in inclusion.items()
    }
    return prune(model, guide, select(inclusion), num_draws=num_draws).network


def test_onnx_and_exported_program(network, tmp_path):
    file = tmp_path / "net.onnx"
    export_onnx(network, file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    program = to_exported_program(network).module()
    for rows in (1, 2, 9):
        x = torch.randn(rows, PIXELS)
        expected = network(x)
        found = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
        assert found.shape == expected.shape
        assert ((found - expected).abs() <= rounding_tolerance(network, x)).all()
        assert torch.equal(program(x), expected)
    kept = json.loads({e.key: e.value for e in onnx.load(file).metadata_props}["kept"])
    assert kept == {k: v.tolist() for k, v in network.kept.items()}


def test_the_tolerance_covers_float32_and_little_more(network):
    x = torch.randn(50, PIXELS)
    tolerance = rounding_tolerance(network, x)
    single = network(x).double()
    error = (single - network.double()(x.double())).abs()
    assert (error <= tolerance).all()
    assert tolerance.max() < 1e-3 * single.abs().max()


def test_other_networks_have_no_tolerance():
    with pytest.raises(ConfigurationError, match="got Linear"):
        rounding_tolerance(torch.nn.Linear(2, 3), torch.zeros(1, 2))
