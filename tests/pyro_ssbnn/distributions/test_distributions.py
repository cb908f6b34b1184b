"""Gates, slabs and their closed-form KLs against exact values and Monte Carlo."""

import math

import pytest
import torch
from pyro import distributions as dist
from torch.distributions import kl_divergence

from pyro_ssbnn.distributions import Gate, GatedNormal, IsotropicNormal, RelaxedGate
from pyro_ssbnn.distributions.kl import (
    kl_gate_gate,
    kl_gated_normal_isotropic_normal,
    kl_log_normal_gamma,
    kl_log_normal_inverse_gamma,
)

N = 200_000
DOUBLE = {"dtype": torch.float64}


def tensor(*values):
    return torch.tensor(values, **DOUBLE)


def gated_normal(open_, inclusion, closed_scale=0.7):
    loc = torch.randn(3, 4, **DOUBLE)
    log_scale = -1 + 0.3 * torch.randn(3, 4, **DOUBLE)
    return GatedNormal(loc, log_scale, open_, inclusion, torch.tensor(closed_scale, **DOUBLE))


class TestGate:
    def test_log_mass_is_bernoullis_at_zero_and_one(self):
        logits = tensor(-3.0, 0.2, 5.0)
        for value in (torch.zeros(3, **DOUBLE), torch.ones(3, **DOUBLE)):
            expected = dist.Bernoulli(logits=logits).log_prob(value)
            torch.testing.assert_close(Gate(logits).log_prob(value), expected)

    def test_log_mass_is_linear_between(self):
        gate = Gate(tensor(0.7))
        ends = gate.log_prob(tensor(0.0)), gate.log_prob(tensor(1.0))
        torch.testing.assert_close(gate.log_prob(tensor(0.25)), 0.75 * ends[0] + 0.25 * ends[1])

    def test_outside_the_unit_interval_is_refused(self):
        with pytest.raises(ValueError, match="support"):
            Gate(tensor(0.0), validate_args=True).log_prob(tensor(1.5))
        assert Gate(tensor(0.0)).support.is_discrete  # so that continuous inference leaves it alone

    @pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
    def test_hard_draws_are_bernoulli_at_every_temperature(self, temperature, check_mean):
        logits = tensor(-2.0, 0.0, 1.5)
        draws = RelaxedGate(torch.tensor(temperature, **DOUBLE), logits).rsample((N,))
        assert set(draws.unique().tolist()) == {0.0, 1.0}
        check_mean(draws, logits.sigmoid())

    def test_hard_gradient_is_the_relaxed_one(self):
        logits = tensor(-0.5, 0.8).requires_grad_()
        temperature = torch.tensor(0.5, **DOUBLE)
        gradients = []
        for hard in (True, False):
            torch.manual_seed(3)
            RelaxedGate(temperature, logits, hard=hard).rsample((50,)).sum().backward()
            gradients.append(logits.grad.clone())
            logits.grad = None
        torch.testing.assert_close(*gradients)
        assert (gradients[0] > 0).all()

    def test_soft_draws_tend_to_hard_ones_as_temperature_falls(self):
        logits = tensor(0.3)
        torch.manual_seed(1)
        soft = RelaxedGate(torch.tensor(1e-4, **DOUBLE), logits, hard=False).rsample((1000,))
        torch.manual_seed(1)
        hard = RelaxedGate(torch.tensor(0.5, **DOUBLE), logits).rsample((1000,))
        # The noise is within 1e-2 of the threshold in half a percent of the draws.
        assert ((soft - hard).abs() > 1e-6).double().mean() < 0.01

    def test_extreme_logits_give_finite_draws_scores_and_gradients(self):
        logits = torch.tensor([-80.0, 80.0]).requires_grad_()
        gate = RelaxedGate(torch.tensor(0.1), logits, hard=False)
        draw = gate.rsample((100,))
        score = gate.log_prob(draw)
        score.sum().backward()
        assert score.isfinite().all()
        assert logits.grad.isfinite().all()

    def test_expand_keeps_class_and_temperature(self):
        gate = RelaxedGate(torch.tensor(0.3), torch.zeros(2)).expand(torch.Size([5, 2]))
        assert type(gate) is RelaxedGate
        assert gate.batch_shape == (5, 2)
        assert gate.temperature == 0.3


class TestSlabs:
    def test_isotropic_normal_is_the_plain_one(self):
        scale, value = tensor(0.5, 2.0), torch.randn(7, 2, 3, **DOUBLE)
        plain = dist.Normal(0 * scale, scale).expand([3, 2]).to_event(0)
        expected = plain.log_prob(value.transpose(-1, -2)).sum(-2)
        torch.testing.assert_close(IsotropicNormal(scale, 3).log_prob(value), expected)

    def test_isotropic_normal_draws_have_its_scale(self, check_mean):
        draws = IsotropicNormal(tensor(0.5, 2.0), 3).rsample((N,))
        assert draws.shape == (N, 2, 3)
        check_mean(draws.square(), tensor(0.25, 4.0)[:, None].expand(2, 3))

    def test_open_rows_score_the_slab_and_closed_rows_the_prior(self):
        q = gated_normal(tensor(1.0, 0.0, 1.0)[:, None], tensor(0.5, 0.5, 0.5)[:, None])
        value = torch.randn(3, 4, **DOUBLE)
        slab = dist.Normal(q.loc, q.scale).log_prob(value).sum(-1)
        prior = IsotropicNormal(q.closed_scale, 4).log_prob(value)
        expected = torch.stack([slab[0], prior[1], slab[2]])
        torch.testing.assert_close(q.log_prob(value), expected)

    def test_column_gates_act_weight_by_weight(self):
        open_ = torch.tensor([[1.0, 0.0, 1.0, 1.0]], **DOUBLE).expand(3, 4)
        q = gated_normal(open_, open_)
        value = torch.randn(3, 4, **DOUBLE)
        slab = dist.Normal(q.loc, q.scale).log_prob(value)
        slab[:, 1] = dist.Normal(0.0, q.closed_scale).log_prob(value[:, 1])
        torch.testing.assert_close(q.log_prob(value), slab.sum(-1))

    def test_sample_follows_its_density_and_rsample_the_open_slab(self, check_mean):
        q = gated_normal(tensor(1.0, 0.0, 1.0)[:, None], tensor(0.9, 0.9, 0.9)[:, None])
        draws = q.sample((N,))
        zero = torch.zeros(4, **DOUBLE)
        check_mean(draws, torch.stack([q.loc[0], zero, q.loc[2]]))
        closed = q.closed_scale.square().expand(4)
        check_mean(draws[:, 1].square(), closed)
        check_mean(q.rsample((N,)), q.loc)

    def test_expand_keeps_the_class_so_that_the_kl_is_hit(self):
        q = gated_normal(tensor(1.0, 0.0, 1.0)[:, None], tensor(0.9, 0.9, 0.9)[:, None])
        expanded = q.expand(torch.Size([5, 3]))
        prior = IsotropicNormal(torch.tensor(0.7, **DOUBLE), 4)
        torch.testing.assert_close(
            kl_divergence(expanded, prior), kl_divergence(q, prior).expand(5, 3)
        )


class TestClosedForms:
    @pytest.mark.parametrize(("log_median", "log_sd"), [(-1.0, 0.3), (0.5, 1.0), (2.0, 0.05)])
    @pytest.mark.parametrize(("shape", "rate"), [(0.5, 1.0), (4.0, 2.0), (30.0, 7.0)])
    @pytest.mark.parametrize("family", ["gamma", "inverse_gamma"])
    def test_log_normal(self, family, shape, rate, log_median, log_sd, check_mean):
        q = dist.LogNormal(torch.tensor(log_median, **DOUBLE), torch.tensor(log_sd, **DOUBLE))
        prior = {"gamma": dist.Gamma, "inverse_gamma": dist.InverseGamma}[family]
        p = prior(torch.tensor(shape, **DOUBLE), torch.tensor(rate, **DOUBLE))
        value = q.sample((N,))
        check_mean(q.log_prob(value) - p.log_prob(value), kl_divergence(q, p))

    @pytest.mark.parametrize("prior_logit", [-6.0, 0.0, 2.0])
    def test_gate(self, prior_logit, check_mean):
        q = RelaxedGate(torch.tensor(0.5, **DOUBLE), tensor(-4.0, 0.3, 6.0))
        p = Gate(torch.tensor(prior_logit, **DOUBLE))
        value = q.rsample((N,))
        check_mean(q.log_prob(value) - p.log_prob(value), kl_divergence(q, p))

    def test_gate_agrees_with_the_definition_and_vanishes_at_equality(self):
        gamma, lam = tensor(0.2, 0.5), tensor(0.2, 0.9)
        expected = gamma * (gamma / lam).log() + (1 - gamma) * ((1 - gamma) / (1 - lam)).log()
        kl = kl_divergence(Gate(gamma.logit()), Gate(lam.logit()))
        torch.testing.assert_close(kl, expected)
        assert kl[0].abs() < 1e-15

    def test_a_gate_sure_of_its_prior_event_costs_minus_log_prior(self):
        kl = kl_divergence(Gate(tensor(40.0)), Gate(tensor(math.log(0.1 / 0.9))))
        torch.testing.assert_close(kl, tensor(-math.log(0.1)))

    @pytest.mark.parametrize("columns", [False, True])
    def test_gated_normal_is_rao_blackwellised_over_the_gates(self, columns, check_mean):
        shape = (3, 4) if columns else (3, 1)
        gamma = torch.rand(shape, **DOUBLE)
        prior = IsotropicNormal(torch.tensor(0.7, **DOUBLE), 4)
        q = gated_normal(torch.bernoulli(gamma.expand(N, *shape)), gamma)
        value = q.rsample()
        check_mean(q.log_prob(value) - prior.log_prob(value), kl_divergence(q, prior)[0])

    def test_gated_normal_limits(self):
        prior = IsotropicNormal(torch.tensor(0.7, **DOUBLE), 4)
        ones = torch.ones(3, 1, **DOUBLE)
        closed = gated_normal(0 * ones, 0 * ones)
        assert (kl_divergence(closed, prior) == 0).all()
        same = GatedNormal(
            torch.zeros(3, 4, **DOUBLE),
            torch.full((3, 4), math.log(0.7), **DOUBLE),
            ones,
            ones,
            torch.tensor(0.7, **DOUBLE),
        )
        assert kl_divergence(same, prior).abs().max() < 1e-14
        open_ = gated_normal(ones, ones)
        expected = kl_divergence(
            dist.Normal(open_.loc, open_.scale), dist.Normal(0 * open_.loc, 0.7)
        ).sum(-1)
        torch.testing.assert_close(kl_divergence(open_, prior), expected)

    def test_column_form_equals_row_form_when_columns_agree(self):
        gamma = torch.rand(3, 1, **DOUBLE)
        prior = IsotropicNormal(torch.tensor(0.7, **DOUBLE), 4)
        torch.manual_seed(5)
        row = gated_normal(gamma, gamma)
        torch.manual_seed(5)
        wide = gated_normal(gamma.expand(3, 4), gamma.expand(3, 4))
        torch.testing.assert_close(kl_divergence(row, prior), kl_divergence(wide, prior))

    def test_the_registered_functions_are_the_ones_called(self):
        from torch.distributions.kl import _dispatch_kl

        pairs = {
            (RelaxedGate, Gate): kl_gate_gate,
            (GatedNormal, IsotropicNormal): kl_gated_normal_isotropic_normal,
            (dist.LogNormal, dist.Gamma): kl_log_normal_gamma,
            (dist.LogNormal, dist.InverseGamma): kl_log_normal_inverse_gamma,
        }
        for pair, function in pairs.items():
            assert _dispatch_kl(*pair) is function
