"""What Pyro's own inference does with a network's gates: the right answer, or a refusal that says what to take."""

import math

import pytest
import torch
from pyro import poutine
from pyro.infer import (
    HMC,
    MCMC,
    NUTS,
    SVGD,
    Predictive,
    RBFSteinKernel,
    Trace_ELBO,
    TraceEnum_ELBO,
    config_enumerate,
    infer_discrete,
)
from pyro.infer.autoguide import (
    AutoDelta,
    AutoDiagonalNormal,
    AutoDiscreteParallel,
    AutoGuideList,
    AutoNormal,
)
from pyro.optim import Adam

from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, StructuredGuide
from pyro_ssbnn.errors import ConfigurationError

ADVICE = "StructuredGuide.*exact.*condition"


@pytest.fixture
def net():
    likelihood = GaussianLikelihood(scale=0.5)
    prior = SSIG(inclusion=0.3)
    return MLP(2, [2], prior=prior, likelihood=likelihood, input_inclusion=0.5, activation="tanh")


@pytest.fixture
def data():
    x = torch.randn(30, 2)
    return x, x[:, 0] + 0.5 * torch.randn(30)


def gate_sites(net):
    return [group.gate_site for group in net.description.gate_groups]


class TestFreeGates:
    @pytest.mark.parametrize("kernel", [HMC, NUTS])
    def test_hamiltonian_kernels_refuse(self, net, data, kernel):
        with pytest.raises(ConfigurationError, match=ADVICE):
            MCMC(kernel(net), 1, 1, disable_progbar=True).run(*data)

    @pytest.mark.parametrize("auto", [AutoNormal, AutoDelta, AutoDiagonalNormal])
    def test_continuous_autoguides_refuse(self, net, data, auto):
        with pytest.raises(ConfigurationError, match=ADVICE):
            auto(net)(*data)

    def test_svgd_refuses(self, net, data):
        with pytest.raises(ConfigurationError, match=ADVICE):
            SVGD(net, RBFSteinKernel(), Adam({"lr": 0.1}), 2, 1).step(*data)

    def test_discrete_autoguides_refuse(self, net, data):
        guide = AutoGuideList(net)
        guide.append(AutoNormal(poutine.block(net, hide=gate_sites(net))))
        guide.append(AutoDiscreteParallel(poutine.block(net, expose=gate_sites(net))))
        with pytest.raises(NotImplementedError, match="Gate is not supported"):
            Trace_ELBO().loss(net, guide, *data)

    def test_enumeration_in_the_model_is_refused(self, net, data):
        guide = AutoNormal(poutine.block(net, hide=gate_sites(net)))
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        with pytest.raises(ConfigurationError, match=ADVICE):
            elbo.loss(config_enumerate(net), guide, *data)

    def test_infer_discrete_refuses(self, net, data):
        with pytest.raises(ConfigurationError, match=ADVICE):
            infer_discrete(config_enumerate(net), first_available_dim=-2)(*data)


class TestWhatWorks:
    def test_nuts_with_conditioned_gates_samples_the_conjugate_posterior(self, check_mean):
        noise = 0.5
        likelihood = GaussianLikelihood(scale=noise)
        net = MLP(2, [], prior=SSIG(), likelihood=likelihood, input_inclusion=0.5).double()
        x = torch.randn(20, 2, dtype=torch.float64)
        y = x[:, 0] - x[:, 1] + noise * torch.randn(20, dtype=torch.float64)
        gates = {"input.gate": torch.tensor([1.0, 0.0], dtype=torch.float64)}
        mcmc = MCMC(NUTS(poutine.condition(net, data=gates)), 400, 100, disable_progbar=True)
        mcmc.run(x, y)
        draws = mcmc.get_samples()["output.weight"].squeeze(1)
        design = torch.stack([x[:, 0], torch.zeros(20), torch.ones(20)], 1).double()
        precision = torch.eye(3, dtype=torch.float64) + design.T @ design / noise**2
        mean = torch.linalg.solve(precision, design.T @ y / noise**2)
        thinned = draws[::2]  # neighbours are correlated
        check_mean(thinned, mean)
        check_mean((thinned - mean).square(), torch.linalg.inv(precision).diagonal())

    def test_autonormal_with_conditioned_gates_finds_the_conjugate_mean(self):
        # Standardised, uncorrelated columns: the posterior factorises, and a mean-field Normal is exact.
        net = MLP(
            1, [], prior=SSIG(), likelihood=GaussianLikelihood(scale=1.0), input_inclusion=0.5
        )
        x = torch.tensor([[-1.0], [1.0]] * 10)
        y = x[:, 0] + 0.1 * torch.randn(20)
        conditioned = poutine.condition(net, data={"input.gate": torch.ones(1)})
        guide = AutoNormal(conditioned)
        elbo = Trace_ELBO(num_particles=50, vectorize_particles=True)
        guide(x, y)
        optimizer = torch.optim.Adam(guide.parameters(), lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            elbo.differentiable_loss(conditioned, guide, x, y).backward()
            optimizer.step()
        weight = guide.median()["output.weight"].squeeze()
        expected = torch.stack([(x[:, 0] * y).sum(), y.sum()]) / 21
        assert torch.allclose(weight, expected, atol=0.05)

    def test_enumeration_with_the_gates_in_the_guide_changes_nothing(self, net, data):
        guide = StructuredGuide(net)
        torch.manual_seed(1)
        expected = Trace_ELBO().loss(net, guide, *data)
        torch.manual_seed(1)
        with pytest.warns(UserWarning, match="found no sample sites configured for enumeration"):
            found = TraceEnum_ELBO(max_plate_nesting=1).loss(net, config_enumerate(guide), *data)
        assert found == pytest.approx(expected, rel=1e-5)

    def test_predictive_draws_hard_gates_at_their_probability(self, net, data, check_mean):
        guide = StructuredGuide(net, initial_inclusion=0.7)
        predictive = Predictive(net, guide=guide, num_samples=2000, parallel=True)
        drawn = predictive(data[0])
        gates = drawn["input.gate"].reshape(2000, 2)
        assert set(gates.unique().tolist()) == {0.0, 1.0}
        check_mean(gates, torch.full((2,), 0.7))
        assert drawn["obs"].shape == (2000, 30)

    def test_relaxed_draws_stay_in_the_support(self, net, data):
        guide = StructuredGuide(net, hard=False)
        gates = poutine.trace(guide).get_trace(*data).nodes["input.gate"]["value"]
        assert ((gates > 0) & (gates < 1)).all()
        assert math.isfinite(Trace_ELBO().loss(net, guide, *data))
