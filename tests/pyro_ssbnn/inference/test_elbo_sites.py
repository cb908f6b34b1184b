"""Sites that AnalyticELBO must not pass by: auxiliary ones of the guide, sampled KLs, sites of no model."""

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from pyro_ssbnn import AnalyticELBO
from pyro_ssbnn.errors import MissingKLError

AUXILIARY, SAMPLED = {"is_auxiliary": True}, {"kl": "sampled"}


def model():
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", 3):
        pyro.sample("obs", dist.Normal(z, 1.0), obs=torch.tensor([0.5, 1.0, -0.2]))


class Guide(pyro.nn.PyroModule):
    """A Normal z whose mean is drawn first, at a site of no prior."""

    def __init__(self, infer=AUXILIARY, spread=dist.Normal):
        super().__init__()
        self.loc = torch.nn.Parameter(torch.tensor(0.3))
        self.infer, self.spread = infer, spread

    def forward(self):
        shift = pyro.sample("shift", self.spread(self.loc, 0.7), infer=self.infer)
        pyro.sample("z", dist.Normal(shift, 0.5))


def both(elbo, model, guide):
    results = []
    for each in (elbo, TraceMeanField_ELBO()):
        pyro.set_rng_seed(3)
        guide.zero_grad()
        loss = each.differentiable_loss(model, guide)
        loss.backward()
        results.append((loss.detach(), *[p.grad.clone() for p in guide.parameters()]))
    return results


def test_terms_are_stacked_in_the_order_of_their_names():
    terms = AnalyticELBO().terms(model, Guide())
    assert terms.sites == ("obs", "z", "shift")
    each = terms.log_likelihood | terms.kl
    assert terms.stacked().tolist() == [each[name].item() for name in terms.sites]
    assert not terms.stacked().requires_grad
    bound = terms.log_likelihood["obs"] - terms.kl["z"] - terms.kl["shift"]
    torch.testing.assert_close(terms.loss(), -bound)


def test_what_follows_an_observation_counts_too():
    class Later(pyro.nn.PyroModule):
        def __init__(self):
            super().__init__()
            self.loc = torch.nn.Parameter(torch.tensor([0.3, -0.1]))

        def forward(self):
            pyro.sample("first", dist.Normal(self.loc[0], 0.5))
            pyro.sample("second", dist.Normal(self.loc[1], 0.7))

    def model():
        first = pyro.sample("first", dist.Normal(0.0, 1.0))
        pyro.sample("early", dist.Normal(first, 1.0), obs=torch.tensor(0.5))
        second = pyro.sample("second", dist.Normal(0.0, 2.0))
        pyro.sample("late", dist.Normal(first + second, 1.0), obs=torch.tensor(-0.2))

    for found, expected in zip(*both(AnalyticELBO(), model, Later()), strict=True):
        torch.testing.assert_close(found, expected)


class TestAuxiliarySites:
    def test_count_as_in_tracemeanfield(self):
        for found, expected in zip(*both(AnalyticELBO(), model, Guide()), strict=True):
            torch.testing.assert_close(found, expected)

    def test_the_term_is_log_q(self):
        pyro.set_rng_seed(3)
        terms = AnalyticELBO().terms(model, Guide())
        pyro.set_rng_seed(3)
        shift = dist.Normal(0.3, 0.7).sample()
        torch.testing.assert_close(terms.kl["shift"], dist.Normal(0.3, 0.7).log_prob(shift))

    def test_particles_average(self):
        guide = Guide()
        pyro.set_rng_seed(0)
        with torch.no_grad():
            many = AnalyticELBO(num_particles=20_000).terms(model, guide)
        entropy = dist.Normal(0.3, 0.7).entropy()
        assert float(many.kl["shift"]) == pytest.approx(-float(entropy), abs=0.03)

    def test_sites_of_no_model_are_refused(self):
        with pytest.raises(
            MissingKLError, match=r"'shift' of the guide is in no prior.*is_auxiliary"
        ):
            AnalyticELBO().terms(model, Guide(infer={}))

    def test_draws_without_gradient_are_refused(self):
        def drawn(loc, scale):
            return dist.Poisson(loc.exp())

        with pytest.raises(MissingKLError, match="reparameterised draw, which Poisson"):
            AnalyticELBO().terms(model, Guide(spread=drawn))


class TestSampledKL:
    """LogNormal from HalfCauchy has no closed form."""

    def model_and_guide(self, infer):
        loc = torch.tensor(0.2, requires_grad=True)

        def model():
            scale = pyro.sample("scale", dist.HalfCauchy(1.0))
            pyro.sample("obs", dist.Normal(0.0, scale), obs=torch.tensor(0.4))

        class Positive(pyro.nn.PyroModule):
            def __init__(self):
                super().__init__()
                self.loc = torch.nn.Parameter(loc.detach())

            def forward(self):
                pyro.sample("scale", dist.LogNormal(self.loc, 0.3), infer=infer)

        return model, Positive()

    def test_is_refused_unless_asked_for(self):
        with pytest.raises(MissingKLError, match=r'infer={"kl": "sampled"}'):
            AnalyticELBO().terms(*self.model_and_guide({}))

    def test_equals_tracemeanfields_own(self):
        results = both(AnalyticELBO(), *self.model_and_guide(SAMPLED))
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected)

    def test_its_mean_is_the_bounds(self):
        model, guide = self.model_and_guide(SAMPLED)
        pyro.set_rng_seed(0)
        found = AnalyticELBO(num_particles=20_000).loss(model, guide)
        expected = Trace_ELBO(num_particles=20_000, vectorize_particles=True).loss(model, guide)
        assert found == pytest.approx(expected, abs=0.05)
