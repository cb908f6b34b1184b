"""A pruned LeNet equals the masked one to rounding: mean and draws, every prior, gates closed at random."""

import pyro
import pytest
import torch
from pyro import poutine

from pyro_ssbnn import (
    SSGHS,
    SSGL,
    SSIG,
    CategoricalLikelihood,
    LeNet,
    StructuredGuide,
    load_compact,
    prune,
    save_compact,
    select,
)
from pyro_ssbnn.errors import CheckpointError, ConfigurationError
from pyro_ssbnn.models import ACTIVATIONS, CompactNetwork, compact_from_state
from pyro_ssbnn.selection.pruning import draw_open_weights

PRIORS = [
    SSIG(inclusion=0.3),
    SSGL(inclusion=0.3),
    SSGHS(inclusion=0.3),
    SSGHS(inclusion=0.3, cap=None),
]
WIDTHS = {"conv1": 4, "conv2": 3, "hidden1": 6, "hidden2": 5}
X = torch.randn(7, 2 * 14 * 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def lenet(prior, **options):
    return LeNet(
        (2, 14, 12),
        (4, 3),
        (6, 5),
        **{"kernel_size": 3, "prior": prior, "likelihood": CategoricalLikelihood(3), **options},
    )


def network(prior, **options):
    model = lenet(prior, **options)
    guide = StructuredGuide(model).double()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model, guide


def at_random(trial):
    """A selection of random size and members; the first trials keep a single one in some layer."""
    generator = torch.Generator().manual_seed(trial)
    inclusion = {k: torch.rand(size, generator=generator) for k, size in WIDTHS.items()}
    return select(inclusion, nodes={k: 1 + trial % size for k, size in WIDTHS.items()})


def masked_output(model, selection, weights):
    """The Pyro model itself with these weights (t u, so under the prior with t = 1) and gates."""
    options = {"activation": model.activation, "padding": model.geometry.padding}
    plain = lenet(SSIG(inclusion=0.3), **options)
    data = {f"{name}.gate": selection.mask(name).double() for name in selection.kept}
    data |= {f"{name}.weight": weight for name, weight in weights.items()}
    return poutine.condition(plain.network, data=data)(X)


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("prior", PRIORS, ids=lambda v: f"{v.name}-{getattr(v, 'cap', '')}")
class TestPrunedEqualsMasked:
    def test_posterior_mean(self, prior, padding):
        model, guide = network(prior, padding=padding)
        weights = {g.name: guide.mean_weights(g.name) for g in model.description.groups}
        for trial in range(13):
            selection = at_random(trial)
            actual = prune(model, guide, selection).network(X)
            expected = masked_output(model, selection, weights)
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)

    def test_posterior_draws(self, prior, padding):
        model, guide = network(prior, padding=padding)
        for trial in (0, 1, 5):
            selection = at_random(trial)
            with torch.random.fork_rng():
                torch.manual_seed(21)
                draws = draw_open_weights(model, guide, selection, 3)
            actual = prune(model, guide, selection, num_draws=3, seed=21).network(X)
            assert actual.shape == (3, 7, 3)
            for s in range(3):
                weights = {name: value[s] for name, value in draws.items()}
                expected = masked_output(model, selection, weights)
                torch.testing.assert_close(actual[s], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation(activation):
    """What a closed filter passes on is the same at every pixel, through pooling too, and folded into the bias."""
    model, guide = network(SSGHS(inclusion=0.3), activation=activation)
    weights = {g.name: guide.mean_weights(g.name) for g in model.description.groups}
    for trial in range(6):
        selection = at_random(trial)
        actual = prune(model, guide, selection).network(X)
        expected = masked_output(model, selection, weights)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_a_constant_that_padding_cuts_off_is_refused():
    model, guide = network(SSGHS(inclusion=0.3), activation="sigmoid", padding=1)
    with pytest.raises(ConfigurationError, match="conv2 pads the maps of conv1 with zeros"):
        prune(model, guide, at_random(0))
    inclusion = {k: torch.rand(size) for k, size in WIDTHS.items()}
    whole = {"conv1": 4, "conv2": 3, "hidden1": 2, "hidden2": 2}
    selection = select(inclusion, nodes=whole)  # all filters stay: nothing to fold at a border
    weights = {g.name: guide.mean_weights(g.name) for g in model.description.groups}
    torch.testing.assert_close(
        prune(model, guide, selection).network(X),
        masked_output(model, selection, weights),
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize("num_draws", [None, 3, 40])
def test_many_images_pass_in_pieces_and_give_what_each_gives_alone(num_draws):
    model, guide = network(SSGHS(inclusion=0.3))
    compact = prune(model, guide, at_random(2), num_draws=num_draws).network
    x = torch.randn(131, X.shape[1], dtype=torch.float64, requires_grad=True)
    together = compact(x)
    alone = torch.cat([compact(row) for row in x.split(1)], dim=-2)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    slope = torch.autograd.grad(together[..., -1, 0].sum(), x)[0]
    assert bool((slope[:-1] == 0).all())
    assert bool((slope[-1] != 0).any())
    assert compact(x[:0]).shape == (*together.shape[:-2], 0, 3)


def test_it_is_smaller_and_the_report_counts_it():
    model, guide = network(SSIG(inclusion=0.3))
    pruning = prune(model, guide, at_random(1))  # two members a layer
    compact, report = pruning.network, pruning.report
    shapes = [tuple(m.weight.shape) for m in compact.layers.values()]
    assert shapes == [(2, 2, 3, 3), (2, 2, 3, 3), (2, 4), (2, 2), (3, 2)]
    held = sum(v.numel() for k, v in compact.state_dict().items() if "kept" not in k)
    assert report.loc["total", "weights_kept"] == held == pruning.num_elements
    # maps of 12 x 10 and 4 x 3 pixels
    assert report["multiply_adds_kept"].tolist() == [
        *(work := [120 * 2 * 19, 12 * 2 * 19, 2 * 5, 2 * 3, 3 * 3]),
        sum(work),
    ]
    assert not any(isinstance(m, pyro.nn.PyroModule) for m in compact.modules())


@pytest.mark.parametrize("num_draws", [None, 3])
def test_file_round_trip(tmp_path, num_draws):
    model, guide = network(SSGHS(inclusion=0.3), padding=1)
    compact = prune(model, guide, at_random(2), num_draws=num_draws).network
    save_compact(compact, tmp_path / "compact.safetensors")
    loaded = load_compact(tmp_path / "compact.safetensors")
    assert isinstance(loaded, CompactNetwork)
    assert loaded.to_config() == compact.to_config()
    assert torch.equal(loaded(X), compact(X))
    for name, indices in compact.kept.items():
        assert torch.equal(loaded.kept[name], indices)


def test_unknown_kinds_and_missing_tensors_are_refused(tmp_path):
    model, guide = network(SSIG(inclusion=0.3))
    compact = prune(model, guide, at_random(2)).network
    with pytest.raises(
        ConfigurationError, match=r"expected one of \['lenet', 'mlp', .*\]; got 'tree'"
    ):
        compact_from_state({"network": "tree"}, {})
    del compact.layers["hidden1"].bias
    save_compact(compact, tmp_path / "compact.safetensors")
    with pytest.raises(CheckpointError, match="the pruned network cannot be made again"):
        load_compact(tmp_path / "compact.safetensors")
