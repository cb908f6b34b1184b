"""What a cut is judged by: the pruned network of posterior means, and batch norms on the rows' own moments."""

import warnings

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.compression.scoring import CutLikelihood

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double()
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
OPTIONS = ss.TrainingOptions(epochs=3, dtype="float64", compile=False)


def fitted(net, x=X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ss.fit(net, x, Y, OPTIONS, progress=False)


def some(sizes):
    """A selection of the first two thirds of each layer."""
    kept = {name: torch.arange(2 * size // 3) for name, size in sizes.items()}
    return ss.Selection(kept, sizes, "some")


@pytest.mark.parametrize("prior", [ss.SSIG(), ss.SSGL(), ss.SSGHS()], ids=lambda p: p.name)
def test_without_batch_norm_it_is_that_of_the_pruned_network(prior):
    result = fitted(ss.MLP(6, [9, 6], prior=prior, likelihood=ss.CategoricalLikelihood(3)))
    selection, before = some({"hidden1": 9, "hidden2": 6}), torch.get_rng_state()
    found = CutLikelihood(result, X, Y)(selection)
    network = ss.prune(result.model, result.guide, selection).network
    log_probability = network(X).log_softmax(-1)[torch.arange(40), Y]
    assert found == pytest.approx(float(log_probability.mean()), abs=1e-9)
    assert torch.equal(before, torch.get_rng_state())


def test_batch_norms_take_the_moments_of_the_rows():
    """Running statistics do not matter, and stay as they are."""
    x = torch.randn(40, 3 * 8 * 8, generator=torch.Generator().manual_seed(1)).double()
    likelihood = ss.CategoricalLikelihood(3)
    result = fitted(ss.ResNet((3, 8, 8), 8, prior=ss.SSIG(), likelihood=likelihood), x)
    sizes = {group.name: group.size for group in result.model.description.gated_layers}
    found = CutLikelihood(result, x, Y)(some(sizes))
    running = [b for name, b in result.model.named_buffers() if "running_mean" in name]
    before = [b.clone() for b in running]
    for buffer in running:
        buffer += 3.0
    assert CutLikelihood(result, x, Y)(some(sizes)) == pytest.approx(found)
    assert all(torch.equal(b, old + 3) for b, old in zip(running, before, strict=True))
