"""What is printed informs in a few lines, whatever the size."""

import pytest
import torch

import pyro_ssbnn as ss

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def result():
    net = ss.MLP(
        3,
        [4],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(scale=0.5),
        input_inclusion=0.3,
    )
    options = ss.TrainingOptions(epochs=3, batch_size=20, kl_warmup=0.0)
    return ss.fit(net, X, X[:, 0], options, progress=False)


def test_a_network(result):
    assert repr(result.model).splitlines() == [
        "MLP: 3 gated predictors -> hidden1 4 gated -> output 1",
        "  21 weights, activation silu",
        "  prior SSIG(scale=1.0, inclusion=0.5)",
        "  output prior Gaussian(scale=1.0, inclusion=None)",
        "  likelihood GaussianLikelihood(weighted=False, scale=0.5, num_targets=1, concentration=1.0, rate=0.001)",
    ]
    assert "(net): MLP: 3 gated predictors" in repr(torch.nn.ModuleDict({"net": result.model}))


def test_a_deep_network():
    net = ss.ResNet((3, 8, 8), 20, prior=ss.SSIG(), likelihood=ss.CategoricalLikelihood(10))
    first = repr(net).splitlines()[0]
    assert first == (
        "ResNet: 192 predictors -> stem 16 gated -> stage1_block1_conv1 16 gated -> ... 15 layers ..."
        " -> stage3_block3_conv1 64 gated -> stage3_block3_conv2 64 gated -> output 10"
    )
    assert (
        repr(net.description) == f"NetworkDescription: {first.partition(': ')[2]}; 268,346 weights"
    )


def test_a_fit_and_its_history(result):
    first, network, bound, active = repr(result).splitlines()
    assert first == "Fit of a StructuredGuide of MLP to 40 rows, epoch 3 of 3"
    assert network == "  3 gated predictors -> hidden1 4 gated -> output 1"
    history = result.history
    assert bound.startswith(f"  ELBO {history.elbo[-1]:.4g} = log-likelihood ")
    counts = {name: rows[-1] for name, rows in history.active().items()}
    assert active == f"  active input {counts['input']} of 3, hidden1 {counts['hidden1']} of 4"
    assert repr(history).splitlines() == ["History of 3 epochs", bound, active]
    assert repr(ss.History()) == "History of 0 epochs"


def test_a_selection_and_a_pruning(result):
    selection = ss.select(result.guide.inclusion(), nodes={"input": 2, "hidden1": 1})
    rule = "median probability model; given numbers: input 2, hidden1 1"
    said = f"Selection: input 2 of 3, hidden1 1 of 4 ({rule})"
    assert repr(selection) == said
    pruning = ss.prune(result.model, result.guide, selection)
    assert repr(pruning) == f"Pruning: weights 21 -> 5, multiply-adds 21 -> 5\n  {said}"
    assert repr(ss.select({})) == "Selection: no gated groups (median probability model)"
