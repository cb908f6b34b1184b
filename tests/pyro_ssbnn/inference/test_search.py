"""What a run does beside its steps: gates that lag are moved, and the evidence has rows before draws."""

import pytest
import torch

from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, StructuredGuide, TrainingOptions, fit
from pyro_ssbnn.inference import search
from pyro_ssbnn.inference.history import History
from pyro_ssbnn.inference.holding import settled_options
from pyro_ssbnn.inference.minibatches import Minibatches
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.run import Run
from pyro_ssbnn.structure.flow import flip_cost

PRIOR = 1e-4


def network(p=3, nodes=4):
    return MLP(
        p,
        [nodes],
        prior=SSIG(inclusion=0.5),
        likelihood=GaussianLikelihood(),
        input_inclusion=PRIOR,
        activation="tanh",
    )


def data(rows=300, p=3):
    torch.manual_seed(0)
    x = torch.randn(rows, p)
    return x, 1.5 * torch.tanh(2 * x[:, 0]) + 0.1 * torch.randn(rows)


def search_of(net, guide, x, y, **options):
    """Search of a run that has not begun."""
    options = settled_options(TrainingOptions(**options), net.description, guide)
    result = Fit(net, guide, options, History(), len(x))
    return Run(result, Minibatches(x, y, options)).search


def moved(start=-5.0, **options):
    """Log-odds of three predictors after they were looked at: y is a wave of the first one alone."""
    net, (x, y) = network(nodes=1), data()
    guide = StructuredGuide(net)
    with torch.no_grad():
        guide.gate_logits("input").fill_(start)
        guide.gate_logits("hidden1").fill_(12.0)
        first, last = guide.hidden1.weight, guide.output.weight
        first.loc.copy_(torch.tensor([[2.0, 0.0, 0.0, 0.0]]))
        first.log_scale.copy_(
            torch.tensor([[-3.0, 0.0, 0.0, -3.0]])
        )  # of those without effect: as a priori
        last.loc.copy_(torch.tensor([[1.5, 0.0]]))
        last.log_scale.fill_(-3.0)
    search_of(net, guide, x, y, gate_rate=0.02, **options)._revise()
    assert guide.gate_logits("hidden1").item() == 12.0
    return guide.gate_logits("input").detach()


def test_a_gate_that_lags_goes_to_where_the_evidence_puts_it():
    """At -5 all three are far above the prior log-odds of -9.2: one opens, two go on closing."""
    torch.testing.assert_close(moved(), torch.tensor([-1.0, -9.0, -9.0]))


def test_gates_stay_where_nothing_is_to_be_removed():
    torch.testing.assert_close(moved(remove_below=None), torch.full((3,), -5.0))


def test_gates_that_are_undecided_or_below_the_prior_are_left_to_the_gradient():
    for start in (-4.0, -9.5):
        torch.testing.assert_close(moved(start), torch.full((3,), start))


def test_useless_predictors_of_a_small_prior_inclusion_leave():
    """By the gradient alone all would stay between the prior's 1e-4 and 0.01, where nothing moves them."""
    x, y = data(p=12)
    options = TrainingOptions(
        epochs=300,
        batch_size=100,
        num_particles=1,
        gate_rate=0.08,
        kl_warmup=0.2,
        compile="trace",
    )
    result = fit(network(12), x, y, options, progress=False)
    left = {move.node for move in result.history.removed if move.group == "input"}
    assert 0 not in left
    assert len(left) >= 6
    assert all(move.inclusion < PRIOR for move in result.history.removed if move.group == "input")


@pytest.mark.parametrize("rows", [200, 2_000, 20_000])
def test_an_ascent_prefers_rows_to_draws(monkeypatch, rows):
    net, seen = network(40, nodes=16), []

    def evidence(model, guide, groups, given, num_data, num_draws):
        seen.append((len(given[0]), num_draws))
        return {}

    monkeypatch.setattr(search, "branch_evidence", evidence)
    own = search_of(net, StructuredGuide(net), *data(rows, 40), screen=False)
    own._evidence(net.description.gate_groups)
    [(taken, draws)] = seen
    cost = flip_cost(net.description)
    assert 4 <= draws <= 16
    assert taken == rows or draws == 4
    assert taken * draws * cost <= 2**28 or taken == 512
    assert rows > 200 or (taken, draws) == (200, 16)
