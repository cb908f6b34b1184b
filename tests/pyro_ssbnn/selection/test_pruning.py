"""Pruned equals masked to rounding, for every prior, likelihood, activation, with and without input gates."""

import pyro
import pytest
import torch
from pyro import poutine

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    PoissonLikelihood,
    Selection,
    StructuredGuide,
    prune,
    select,
)
from pyro_ssbnn.errors import ConfigurationError, DataError, SelectionError
from pyro_ssbnn.models import ACTIVATIONS
from pyro_ssbnn.posterior.draws import site_values, trace_draws
from pyro_ssbnn.selection.pruning import draw_open_weights

PRIORS = [
    SSIG(inclusion=0.3),
    SSGL(inclusion=0.3),
    SSGHS(inclusion=0.3),
    SSGHS(inclusion=0.3, cap=None),
]
LIKELIHOODS = [
    GaussianLikelihood(),
    GaussianLikelihood(num_targets=2),
    CategoricalLikelihood(3),
    BernoulliLikelihood(),
    PoissonLikelihood(),
]
WIDTHS = {"input": 5, "hidden1": 7, "hidden2": 6}


def network(prior, likelihood, *, activation="silu", input_inclusion=None, hidden=(7, 6)):
    """A network whose guide has random scales and inclusion probabilities on both sides of 1/2."""
    model = MLP(
        5,
        list(hidden),
        prior=prior,
        likelihood=likelihood,
        activation=activation,
        input_inclusion=input_inclusion,
    )
    guide = StructuredGuide(model).double()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in guide.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if name.endswith("logits"):
                parameter.copy_(2 * noise)
                parameter.view(-1)[0] = 1.0  # at least one member is in
            else:
                parameter.add_(0.3 * noise)
    return model, guide


def masked_output(model, guide, selection, x, weights):
    """The Pyro model itself, every gate set by the selection and every node given its weights."""
    description = model.description
    data = {f"{name}.gate": selection.mask(name).double() for name in selection.kept}
    for group in description.groups:
        data[group.weight_site] = weights[group.name]
    # Weights are given whole (t u), so the scale latents are set where t = 1 by asking the plain Gaussian prior.
    from pyro_ssbnn.priors import SSIG, Gaussian

    plain = MLP(
        description.inputs.size,
        [g.size for g in description.groups[:-1]],
        prior=SSIG(inclusion=0.3) if description.gated_layers else Gaussian(),
        likelihood=model.likelihood,
        activation=model.activation,
        input_inclusion=description.inputs.inclusion,
    )
    return poutine.condition(plain.network, data=data)(x)


@pytest.mark.parametrize("input_inclusion", [None, 0.5])
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda v: f"{v.name}{v.num_outputs}")
@pytest.mark.parametrize("prior", PRIORS, ids=lambda v: f"{v.name}-{getattr(v, 'cap', '')}")
class TestPrunedEqualsMasked:
    def test_posterior_mean(self, prior, likelihood, input_inclusion):
        model, guide = network(prior, likelihood, input_inclusion=input_inclusion)
        x = torch.randn(9, 5, dtype=torch.float64)
        selection = select(guide.inclusion())
        weights = {g.name: guide.mean_weights(g.name) for g in model.description.groups}
        expected = masked_output(model, guide, selection, x, weights)
        actual = prune(model, guide, selection).network(x)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)
        assert actual.shape == (9, likelihood.num_outputs)

    def test_posterior_draws(self, prior, likelihood, input_inclusion):
        model, guide = network(prior, likelihood, input_inclusion=input_inclusion)
        x = torch.randn(9, 5, dtype=torch.float64)
        selection = select(guide.inclusion())
        with torch.random.fork_rng():
            torch.manual_seed(21)
            draws = draw_open_weights(model, guide, selection, 4)
        actual = prune(model, guide, selection, num_draws=4, seed=21).network(x)
        assert actual.shape == (4, 9, likelihood.num_outputs)
        for s in range(4):
            weights = {name: value[s] for name, value in draws.items()}
            expected = masked_output(model, guide, selection, x, weights)
            torch.testing.assert_close(actual[s], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("room", "parts"), [(0, [1, 1, 1, 1, 1]), (2, [2, 2, 1])])
def test_draws_are_cut_a_few_at_a_time(monkeypatch, room, parts):
    """Room for so many draws of the whole network; one at least."""
    model, guide = network(SSGHS(inclusion=0.3), GaussianLikelihood())
    selection, x = select(guide.inclusion()), torch.randn(9, 5, dtype=torch.float64)
    elements = max(1, room * model.description.num_weights)
    monkeypatch.setattr("pyro_ssbnn.selection.pruning._CHUNK_ELEMENTS", elements)
    actual = prune(model, guide, selection, num_draws=5, seed=3).network(x)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn = [draw_open_weights(model, guide, selection, number) for number in parts]
    for s in range(5):
        weights = {name: torch.cat([part[name] for part in drawn])[s] for name in drawn[0]}
        expected = masked_output(model, guide, selection, x, weights)
        torch.testing.assert_close(actual[s], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation_with_nodes_closed_at_random(activation):
    """Sigmoid and softplus pass a constant on from closed nodes: it is folded into the next bias."""
    model, guide = network(SSGHS(inclusion=0.3), GaussianLikelihood(), activation=activation)
    weights = {g.name: guide.mean_weights(g.name) for g in model.description.groups}
    x = torch.randn(9, 5, dtype=torch.float64)
    for trial in range(20):
        torch.manual_seed(trial)
        inclusion = {name: torch.rand(WIDTHS[name]) for name in ("hidden1", "hidden2")}
        selection = select(inclusion, nodes={"hidden1": 1 + trial % 7, "hidden2": 1 + trial % 6})
        expected = masked_output(model, guide, selection, x, weights)
        actual = prune(model, guide, selection).network(x)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_the_masked_pyro_model_with_its_own_scale_latents():
    """An independent road for the draws: replay the network on one trace of the guide with the gates set."""
    model, guide = network(
        SSGHS(inclusion=0.3, cap=None), GaussianLikelihood(), input_inclusion=0.5
    )
    selection = select(guide.inclusion())
    gates = {f"{name}.gate": selection.mask(name).double() for name in selection.kept}
    x = torch.randn(9, 5, dtype=torch.float64)
    torch.manual_seed(5)
    trace = trace_draws(
        poutine.condition(guide, data={k: v.expand(1, -1) for k, v in gates.items()}), 1
    )
    expected = poutine.condition(model.network, data=site_values(trace))(x).detach()
    actual = prune(model, guide, selection, num_draws=1, seed=5).network(x)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_compact_network_is_physically_smaller_and_keeps_indices():
    model, guide = network(SSIG(inclusion=0.3), CategoricalLikelihood(3), input_inclusion=0.5)
    inclusion = guide.inclusion()
    pruning = prune(model, guide)
    compact = pruning.network
    for name in ("hidden1", "hidden2"):
        expected = (inclusion[name] > 0.5).nonzero().flatten()
        assert torch.equal(compact.kept[name], expected)
    assert torch.equal(compact.input_index, (inclusion["input"] > 0.5).nonzero().flatten())
    shapes = [tuple(layer.weight.shape) for layer in compact.layers.values()]
    kept = pruning.selection.counts
    assert shapes == [
        (kept["hidden1"], kept["input"]),
        (kept["hidden2"], kept["hidden1"]),
        (3, kept["hidden2"]),
    ]
    weights = sum(rows * (columns + 1) for rows, columns in shapes)
    assert pruning.report.loc["total", "weights_kept"] == weights
    works = [f"{what}{kept}" for what in ("weights", "multiply_adds") for kept in ("", "_kept")]
    assert not pruning.report.loc["input", works].any()  # they stand with the layer that reads it
    held = sum(v.numel() for k, v in compact.state_dict().items() if "layers" in k)
    assert held == weights == pruning.num_elements
    assert not any(isinstance(p, pyro.nn.PyroModule) for p in compact.modules())


def test_a_predictor_is_kept_by_either_gate():
    model = MLP(
        3,
        [4],
        prior=SSIG(inclusion=0.5),
        likelihood=GaussianLikelihood(),
        input_inclusion=0.5,
        linear=True,
    )
    kept = {"input": torch.tensor([0]), "linear": torch.tensor([2]), "hidden1": torch.tensor([1])}
    by_hand = Selection(kept, {"input": 3, "linear": 3, "hidden1": 4}, "by hand")
    report = prune(model, StructuredGuide(model), by_hand).report
    assert report["nodes_kept"].to_dict() == {
        "input": 2,
        "hidden1": 1,
        "linear": 1,
        "output": 1,
        "total": 5,
    }


def test_report_counts_the_dense_network():
    """784-400-400-10 has 478,410 weights and multiply-adds, biases counted."""
    model = MLP(784, [400, 400], prior=SSGHS(), likelihood=CategoricalLikelihood(10))
    report = prune(model, StructuredGuide(model)).report
    assert report.loc["total", "weights"] == 478_410
    assert report.loc["total", "multiply_adds"] == report.loc["total", "multiply_adds_kept"]


def test_pruning_everything_is_refused_with_the_rule():
    model, guide = network(SSIG(inclusion=0.3), GaussianLikelihood())
    with torch.no_grad():
        guide.hidden2.gate.logits.fill_(-3.0)
    with pytest.raises(SelectionError, match=r"hidden2 would keep no member .*median probability"):
        prune(model, guide)
    with pytest.raises(ConfigurationError, match="num_draws"):
        prune(model, guide, select(guide.inclusion(), nodes=2), num_draws=0)


@pytest.mark.parametrize(
    "indices",
    [*map(torch.tensor, ([1, 1], [2, 1], [3], [0, 1, 3], [-1], [1.0])), [1]],
    ids=str,
)
def test_a_selection_by_hand_holds_each_node_once_in_order(indices):
    model = MLP(2, [3], prior=SSIG(inclusion=0.5), likelihood=GaussianLikelihood(scale=1.0))
    by_hand = Selection({"hidden1": indices}, {"hidden1": 3}, "by hand")
    with pytest.raises(
        SelectionError, match=r"indices of hidden1 must be .* within 0\.\.2, each once"
    ):
        prune(model, StructuredGuide(model), by_hand)


def test_a_linear_model_prunes_to_its_predictors():
    model, guide = network(
        SSIG(inclusion=0.3), GaussianLikelihood(), input_inclusion=0.5, hidden=()
    )
    x = torch.randn(9, 5, dtype=torch.float64)
    kept = guide.inclusion()["input"] > 0.5
    weights = guide.mean_weights("output")
    expected = (x * kept) @ weights[:, :-1].T + weights[:, -1]
    torch.testing.assert_close(prune(model, guide).network(x), expected, rtol=0, atol=1e-10)


INCLUSION = {"input": torch.tensor([0.9, 0.1]), "hidden1": torch.tensor([0.5, 0.51, 0.2, 0.7])}


class TestSelect:
    def test_median_probability_model_is_strict(self):
        selection = select(INCLUSION)
        assert {k: v.tolist() for k, v in selection.kept.items()} == {
            "input": [0],
            "hidden1": [1, 3],
        }
        assert selection.mask("hidden1").tolist() == [False, True, False, True]

    def test_threshold(self):
        assert select(INCLUSION, threshold=0.6).counts == {"input": 1, "hidden1": 1}

    def test_given_numbers_keep_the_best_and_leave_predictors_to_the_threshold(self):
        selection = select(INCLUSION, nodes=3)
        assert selection.kept["hidden1"].tolist() == [0, 1, 3]
        assert selection.counts["input"] == 1
        assert select(INCLUSION, nodes={"input": 2}).counts == {"input": 2, "hidden1": 2}

    @pytest.mark.parametrize(
        ("number", "nonlinear", "linear"),
        [(1, [], [2]), (2, [0], [0, 2]), (3, [0, 3], [0, 2]), (4, [0, 3], [0, 1, 2])],
    )
    def test_predictors_are_counted_by_either_gate(self, number, nonlinear, linear):
        """Either: 0.92, 0.44, 0.991, 0.64. The last two have no gate above one half, and keep the likelier one."""
        inclusion = {
            "input": torch.tensor([0.8, 0.2, 0.1, 0.5]),
            "linear": torch.tensor([0.6, 0.3, 0.99, 0.28]),
        }
        kept = select(inclusion, nodes={"input": number}).kept
        assert (kept["input"].tolist(), kept["linear"].tolist()) == (nonlinear, linear)
        alone = select(inclusion, nodes={"input": 1, "linear": 3}).kept
        assert (alone["input"].tolist(), alone["linear"].tolist()) == ([0], [0, 1, 2])

    def test_either_gate_is_one_probability(self):
        """0.91 against 0.72: neither the sum of the two gates nor the larger linear one decides."""
        inclusion = {"input": torch.tensor([0.6, 0.9]), "linear": torch.tensor([0.3, 0.1])}
        kept = select(inclusion, nodes={"input": 1}).kept
        assert (kept["input"].tolist(), kept["linear"].tolist()) == ([1], [])

    def test_the_rule_is_told(self):
        assert select(INCLUSION).rule == "median probability model"
        assert select(INCLUSION, threshold=0.0).counts == {"input": 2, "hidden1": 4}
        given = select(INCLUSION, threshold=0.25, nodes={"hidden1": 2}).rule
        assert given == "inclusion above 0.25; given numbers: hidden1 2"

    def test_ties_go_to_the_lower_index(self):
        assert select({"h": torch.full((5,), 0.3)}, nodes=2).kept["h"].tolist() == [0, 1]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"threshold": 1.0}, "threshold"),
            ({"threshold": -0.1}, "threshold"),
            ({"nodes": 2.5}, "nodes must be a whole number"),
            ({"nodes": {"hidden9": 1}}, "no gated group is called 'hidden9'"),
            ({"nodes": 5}, "has 4 nodes; cannot keep 5"),
            ({"nodes": 0}, "cannot keep 0"),
        ],
    )
    def test_bad_rules_are_refused(self, options, message):
        with pytest.raises(ConfigurationError, match=message):
            select(INCLUSION, **options)

    @pytest.mark.parametrize(
        "inclusion", [[torch.ones(2)], {"h": torch.ones(2, 1)}, {"h": [0.9, 0.1]}], ids=str
    )
    def test_what_is_no_inclusion_is_refused(self, inclusion):
        with pytest.raises(ConfigurationError, match=r"as guide\.inclusion\(\) gives it; got"):
            select(inclusion)


@pytest.mark.parametrize(
    "x", [torch.ones(2, 5, dtype=torch.int64), [[1.0] * 5]], ids=["whole", "list"]
)
def test_a_pruned_network_takes_floating_point_tensors(x):
    model, guide = network(SSIG(inclusion=0.3), GaussianLikelihood())
    with pytest.raises(DataError, match=r"x must be a floating-point torch\.Tensor; got"):
        prune(model, guide).network(x)
