"""Student-t, heteroscedastic and ordinal likelihoods: closed forms and limits."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError, DataError

S, N, K = 40, 6, 5
TAILS = {
    "noise.squared_scale": torch.linspace(0.1, 2, S).double()[:, None],
    "noise.excess_df": torch.linspace(0.5, 30, S).double()[:, None],
}
CUTS = {
    "noise.first_cut": torch.randn(S, 1, generator=torch.Generator().manual_seed(1)).double(),
    "noise.gaps": torch.rand(S, 1, K - 2, generator=torch.Generator().manual_seed(2)).double(),
}


class TestStudentT:
    likelihood = ss.StudentTLikelihood()
    f = torch.randn(S, N, 1, generator=torch.Generator().manual_seed(0)).double()
    y = torch.linspace(-8, 8, N).double()

    def law(self):
        df = 2 + TAILS["noise.excess_df"]
        return stats.t(df, self.f[..., 0], TAILS["noise.squared_scale"].sqrt())

    def test_density_and_distribution_function(self):
        found = self.likelihood.distribution(self.f, TAILS)
        np.testing.assert_allclose(found.log_prob(self.y), self.law().logpdf(self.y), rtol=1e-9)
        cdf = self.likelihood.cdf(self.y, self.f, TAILS)
        np.testing.assert_allclose(cdf, self.law().cdf(self.y), rtol=1e-9)
        np.testing.assert_allclose(found.variance, self.law().var(), rtol=1e-9)

    def test_quantiles(self):
        found = self.likelihood.quantile(0.05, self.f, TAILS)
        np.testing.assert_allclose(self.law().cdf(found).mean(0), 0.05, rtol=1e-6)

    def test_many_degrees_of_freedom_are_a_gaussian(self):
        latents = {**TAILS, "noise.excess_df": torch.full((S, 1), 1e8).double()}
        variance = {"noise.variance": TAILS["noise.squared_scale"]}
        gaussian = ss.GaussianLikelihood().distribution(self.f, variance)
        found = self.likelihood.distribution(self.f, latents)
        assert_close(found.log_prob(self.y), gaussian.log_prob(self.y), rtol=1e-4, atol=1e-4)

    def test_fewer_than_two_degrees_of_freedom_are_a_choice(self):
        latents = {**TAILS, "noise.excess_df": torch.full((S, 1), 1e-3).double()}
        assert self.likelihood.distribution(self.f, latents).variance.isfinite().all()
        heavy = ss.StudentTLikelihood(least_df=0.0)
        assert not heavy.distribution(self.f, latents).variance.isfinite().any()
        with pytest.raises(ConfigurationError, match="least_df must be a number from 0 on"):
            ss.StudentTLikelihood(least_df=-1.0)


class TestHeteroscedastic:
    likelihood = ss.HeteroscedasticLikelihood()

    def test_with_one_spread_it_is_the_gaussian(self):
        f = torch.randn(S, N, 2).double()
        f[..., 1] = np.log(0.3)
        y = torch.randn(N).double()
        gaussian = ss.GaussianLikelihood(scale=0.3)
        one = gaussian.distribution(f[..., :1], {})
        assert_close(self.likelihood.distribution(f, {}).log_prob(y), one.log_prob(y))
        assert_close(self.likelihood.mean(f, {}), gaussian.mean(f[..., :1], {}))
        found = self.likelihood.quantile(0.9, f, {})
        assert_close(found, gaussian.quantile(0.9, f[..., :1], {}), rtol=0, atol=1e-6)
        assert_close(self.likelihood.cdf(y, f, {}), gaussian.cdf(y, f[..., :1], {}))

    def test_the_spread_stays_between_its_limits_and_beyond_grows_slowly(self):
        f = torch.tensor([[0.0, -1e30], [0.0, -10.0], [0.0, 10.0], [0.0, 1e30]]).double()
        scale = self.likelihood.scale(f)
        assert_close(scale[1], 1e-3 / (1 + np.log(1e-3) + 10) * torch.ones(()).double())
        assert_close(scale[2], 1e3 * (1 + 10 - np.log(1e3)) * torch.ones(()).double())
        assert ((scale > 1e-10) & scale.isfinite()).all()

    def test_limits_that_exclude_the_data_are_refused(self):
        with pytest.raises(ConfigurationError, match="smallest must be below 1"):
            ss.HeteroscedasticLikelihood(smallest=2.0)


class TestOrdinal:
    likelihood = ss.OrdinalLikelihood(K)

    def test_probabilities_are_differences_of_cumulative_ones(self):
        f = 2 * torch.randn(S, N, 1).double()
        cuts = CUTS["noise.first_cut"].unsqueeze(-1)
        cuts = torch.cat([cuts, cuts + CUTS["noise.gaps"].cumsum(-1)], -1)
        below = torch.sigmoid(cuts - f)
        ends = torch.zeros(S, N, 1).double()
        expected = torch.cat([ends, below, ends + 1], -1).diff(dim=-1)
        assert_close(self.likelihood.mean(f, CUTS), expected)
        law = self.likelihood.distribution(f, CUTS)
        for k in range(K):
            assert_close(law.log_prob(torch.full((N,), k)), expected[..., k].log())

    def test_probabilities_far_out_keep_their_logarithm(self):
        """Where a difference of cumulative probabilities would be 0."""
        f = torch.tensor([[[60.0]]]).double()
        one = {k: v[:1] for k, v in CUTS.items()}
        scores = self.likelihood.distribution(f, one).log_prob(torch.arange(K)[:, None, None])
        assert scores.isfinite().all()
        assert_close(scores[0, 0, 0], one["noise.first_cut"][0, 0] - 60)

    def test_two_grades_are_a_logistic_regression_with_a_threshold(self):
        two = ss.OrdinalLikelihood(2)
        cut = {"noise.first_cut": CUTS["noise.first_cut"]}
        f = torch.randn(S, N, 1).double()
        logistic = ss.BernoulliLikelihood().mean(f - cut["noise.first_cut"].unsqueeze(-1), {})
        assert_close(two.mean(f, cut)[..., 1], logistic)
        assert two.mean(f[:1], cut).shape == (S, N, 2)  # one set of weights, many cut points
        assert set(two.latent_names) == {"noise.first_cut"}

    def test_a_larger_output_shifts_the_grade_upwards(self):
        f = torch.linspace(-5, 5, 21).double()[None, :, None]
        grades = torch.arange(K).double()
        assert ((self.likelihood.mean(f, CUTS) @ grades).diff(dim=1) > 0).all()

    def test_the_guide_starts_where_all_grades_are_equally_probable(self):
        net = ss.MLP(2, [3], prior=ss.SSIG(inclusion=0.5), likelihood=self.likelihood)
        noise = ss.StructuredGuide(net).noise
        start = {
            "noise.first_cut": noise.first_cut.loc.detach(),
            "noise.gaps": noise.gaps.loc.detach().exp(),
        }
        assert_close(self.likelihood.mean(torch.zeros(1, 1), start), torch.full((1, K), 1 / K))

    def test_grades_outside_are_refused_by_name(self):
        with pytest.raises(
            DataError, match=r"OrdinalLikelihood: labels must be 0\.\.4; found 1\.\.5"
        ):
            self.likelihood.check_data(torch.arange(1, 6))
