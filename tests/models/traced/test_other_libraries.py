"""Networks that no one here wrote: torchvision's and timm's, read, cut exactly, and counted."""

import pytest
import torch
from pyro import poutine

import pyro_ssbnn as ss

pytestmark = pytest.mark.slow  # whole networks in double precision

VIT = ("image_size", "patch_size", "num_layers", "num_heads", "hidden_dim", "mlp_dim")


@pytest.fixture(scope="module")
def models():
    """torchvision's models, also where its compiled operators are those of another build of torch."""
    try:
        from torchvision import models
    except ImportError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:  # an operator it describes is not there
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import models
    return models


@pytest.mark.parametrize(
    ("name", "side", "gated", "followers"),
    [
        ("resnet18", 64, 20, 0),
        ("mobilenet_v2", 64, 35, 17),
        ("densenet121", 32, 120, 0),
        ("googlenet", 64, 57, 0),
        ("shufflenet_v2_x0_5", 64, 17, 16),
        ("vgg11", 32, 10, 0),
        ("VisionTransformer", 32, 4, 4),
    ],
)
def test_torchvision(models, name, side, gated, followers):
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    if name == "VisionTransformer":
        options = dict(zip(VIT, (32, 8, 2, 2, 16, 32), strict=True))
    module = getattr(models, name)(num_classes=10, **options)
    if name == "vgg11":  # with narrower dense layers: the original's take minutes
        module.avgpool = torch.nn.AdaptiveAvgPool2d(1)
        module.classifier[0] = torch.nn.Linear(512, 256)
        module.classifier[3] = torch.nn.Linear(256, 256)
        module.classifier[6] = torch.nn.Linear(256, 10)
    if name == "VisionTransformer":  # which begins with an output of 0
        torch.nn.init.normal_(module.heads.head.weight)
    check_forward_and_cut(module, side, gated, followers)


@pytest.mark.parametrize(
    ("name", "gated", "followers"),
    [
        ("resnet10t", 14, 0),
        ("mobilenetv3_small_050", 33, 20),
        ("efficientnet_lite0", 33, 16),
        ("darknet17", 16, 0),
        ("dla34", 37, 0),
    ],
)
def test_timm(models, name, gated, followers):
    timm = pytest.importorskip("timm")  # which needs torchvision
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, num_classes=10)
    check_forward_and_cut(module, 64, gated, followers)


@torch.no_grad()
def check_forward_and_cut(module, side, gated, followers):
    """The network is the module, and pruned it is the network under masks."""
    module = module.double().eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(part.running_mean, std=0.3)
            torch.nn.init.normal_(part.bias, std=0.3)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    network = ss.from_module(
        module, prior=ss.SSIG(), likelihood=ss.CategoricalLikelihood(10), example=x
    ).eval()
    description = network.description
    assert (len(description.gated_layers), len(description.follows)) == (gated, followers)
    weights = network.weights_of(module)
    data = {group.weight_site: weights[group.name] for group in description.groups}
    masks = {g.gate_site: torch.ones(g.size, dtype=torch.float64) for g in description.gated_layers}
    whole = poutine.condition(network.network, data={**data, **masks})(x.flatten(1))
    torch.testing.assert_close(whole, module(x), rtol=0, atol=1e-10)
    guide = ss.StructuredGuide(network).double()
    guide.start_from(weights)
    kept = {
        g.name: (torch.rand(g.size) < 0.6).nonzero().flatten() for g in description.gated_layers
    }
    selection = ss.Selection(kept, {g.name: g.size for g in description.gated_layers}, "at random")
    masks = {f"{k}.gate": selection.mask(k).double() for k in kept}
    masked = poutine.condition(network.network, data={**data, **masks})(x.flatten(1))
    assert not masked.allclose(whole)
    pruned = ss.prune(network, guide, selection).network
    torch.testing.assert_close(pruned(x.flatten(1)), masked, rtol=0, atol=1e-10)
    torch.testing.assert_close(ss.plain_module(pruned)(x), masked, rtol=0, atol=1e-10)
