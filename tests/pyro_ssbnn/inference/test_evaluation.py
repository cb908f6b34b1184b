"""The bound as a number with its error: the strata are the gates' law, and the estimate is the ELBO's mean."""

import itertools

import pytest
import torch

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    AnalyticELBO,
    CoupledGuide,
    GaussianLikelihood,
    StructuredGuide,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference import evaluate_bound
from pyro_ssbnn.inference.evaluation import Bound, strata


def network(prior=None):
    prior = prior or SSIG(inclusion=0.3)
    return MLP(3, [4], prior=prior, likelihood=GaussianLikelihood(), input_inclusion=0.3)


def data(num_data=30):
    x = torch.randn(num_data, 3)
    return x, x[:, 0] - x[:, 1] + 0.3 * torch.randn(num_data)


LOGITS = torch.tensor([2.0, -3.0, 0.5, -1.0], dtype=torch.float64)


def test_strata_give_every_set_of_gates_its_probability(check_mean):
    many = [strata(LOGITS, 4_000) for _ in range(30)]
    for row in itertools.product((0.0, 1.0), repeat=4):
        wanted = torch.tensor(row)
        exact = torch.where(wanted > 0, LOGITS.sigmoid(), (-LOGITS).sigmoid()).prod()
        shares = [sum(p * (z == wanted).all(1).double().mean() for p, z in parts) for parts in many]
        check_mean(torch.stack(shares), exact)


def test_few_draws_give_the_moments_of_the_gates(check_mean):
    """Also where single differences share a stratum, because draws do not suffice for each."""
    many = [strata(LOGITS, 8) for _ in range(2_000)]
    for parts in many:
        assert sum(p for p, _ in parts) == pytest.approx(1.0)
        assert min(len(gates) for _, gates in parts) >= 2
    inclusion = LOGITS.sigmoid()
    first = torch.stack([sum(p * z.mean(0) for p, z in parts) for parts in many])
    check_mean(first, inclusion)
    pairs = [sum(p * (z[:, 0] * z[:, 2]).mean() for p, z in parts) for parts in many]
    check_mean(torch.stack(pairs), inclusion[0] * inclusion[2])


def test_sure_gates_are_one_stratum():
    [(probability, gates)] = strata(torch.tensor([40.0, -40.0]), 10)
    assert probability == pytest.approx(1.0)
    assert torch.equal(gates, torch.tensor([1.0, 0.0]).double().expand(10, 2))


@pytest.mark.parametrize("prior", [SSIG(inclusion=0.3), SSGL(inclusion=0.3), SSGHS(inclusion=0.3)])
def test_the_estimate_is_the_mean_of_the_elbo(prior):
    x, y = data()
    model = network(prior)
    guide = StructuredGuide(model, initial_inclusion=0.8)
    bound = evaluate_bound(model, guide, x, y, num_draws=4_000)
    elbo = AnalyticELBO(64)
    with torch.no_grad():
        plain = -torch.tensor([elbo.loss(model, guide, x, y) for _ in range(100)])
    error = (plain.var() / len(plain) + bound.error**2) ** 0.5
    assert abs(bound.elbo - plain.mean()) < 4.5 * error
    assert bound.elbo == pytest.approx(bound.log_likelihood - bound.kl)


def test_the_error_is_that_of_repetition_and_less_than_without_strata():
    """A needed gate that is nearly sure: plain draws that close it scatter the mean, stratified ones do not."""
    x, y = data(60)
    likelihood = GaussianLikelihood(scale=0.3)
    model = MLP(3, [4], prior=SSIG(inclusion=0.3), likelihood=likelihood, input_inclusion=0.3)
    guide = StructuredGuide(model, initial_inclusion=0.99)
    with torch.no_grad():
        guide.hidden1.weight.log_scale.fill_(-6.0)  # gates are all that varies
        guide.output.weight.log_scale.fill_(-6.0)
    bounds = [evaluate_bound(model, guide, x, y, num_draws=256, seed=s) for s in range(40)]
    spread = torch.tensor([b.elbo for b in bounds]).std().item()
    stated = sum(b.error for b in bounds) / len(bounds)
    assert 0.6 < spread / stated < 1.6
    with torch.no_grad():
        losses = [AnalyticELBO(256).loss(model, guide, x, y) for _ in range(40)]
    plain = torch.tensor(losses).std()
    assert spread < 0.5 * plain


def test_coupled_gates_are_drawn_from_their_joint_law():
    x, y = data()
    model = network()
    guide = CoupledGuide(model)
    bound = evaluate_bound(model, guide, x, y, num_draws=2_000)
    with torch.no_grad():
        plain = -torch.tensor([AnalyticELBO(64).loss(model, guide, x, y) for _ in range(60)])
    error = (plain.var() / len(plain) + bound.error**2) ** 0.5
    assert abs(bound.elbo - plain.mean()) < 4.5 * error


def test_some_rows_stand_for_all():
    x, y = data(400)
    model = network()
    guide = StructuredGuide(model)
    whole = evaluate_bound(model, guide, x, y, num_draws=64)
    some = evaluate_bound(model, guide, x, y, num_draws=64, max_rows=399)
    assert some.log_likelihood == pytest.approx(whole.log_likelihood, rel=0.2)
    assert some.kl == pytest.approx(whole.kl)


def test_what_cannot_be_evaluated_is_refused():
    x, y = data()
    model = network()
    with pytest.raises(ConfigurationError, match="at least 8"):
        evaluate_bound(model, StructuredGuide(model), x, y, num_draws=4)
    other = MLP(
        3, [5], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood(), input_inclusion=0.3
    )
    with pytest.raises(ConfigurationError, match="evaluate_bound"):
        evaluate_bound(model, StructuredGuide(other), x, y)


def test_a_bound_is_told_with_its_error():
    assert str(Bound(-12.345, 0.06, -10.0, 2.345, 16)) == "-12.3 ± 0.1"
