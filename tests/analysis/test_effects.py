"""Effects of predictors against closed forms of linear networks; interactions against Liu and Owen's formula."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError, DataError

S = 40
X = torch.randn(150, 4, generator=torch.Generator().manual_seed(0))
FACTOR = torch.eye(3)[torch.arange(150) % 3]


def linear(likelihood, size=4):
    """A network without hidden nodes, its guide, and its weights in S draws, ``[S, p]`` and ``[S]``."""
    net = ss.MLP(size, [], prior=ss.Gaussian(), likelihood=likelihood)
    guide = ss.StructuredGuide(net)
    weights = ss.draw_posterior(net, guide, S, weights=True).weights["output"][:, 0].double()
    return net, guide, weights[:, :-1], weights[:, -1]


def near(expected):
    return pytest.approx(np.asarray(expected), rel=1e-4, abs=1e-5)


class TestPartialDependence:
    def test_of_a_linear_mean_is_a_line(self):
        net, guide, w, b = linear(ss.GaussianLikelihood())
        at = [-1.0, 0.0, 2.0]
        found = ss.partial_dependence(net, guide, X, "x3", at=at, num_draws=S, curves=True)
        others = X.double().mean(0) * torch.tensor([1, 1, 0, 1])
        expected = w[:, 2:3] * torch.tensor(at).double() + (w @ others + b)[:, None]
        assert found.draws == near(expected)
        assert found.points == near(at)
        own = X.double() @ w.mean(0) + b.mean() - w.mean(0)[2] * X[:, 2]
        assert found.curves == near(own[:, None] + w.mean(0)[2] * torch.tensor(at).double())
        assert not found.is_factor

    def test_is_on_the_targets_scale(self):
        net, guide, w, b = linear(ss.PoissonLikelihood())
        found = ss.partial_dependence(net, guide, X, 1, at=[0.5], num_draws=S)
        moved = X.double().clone()
        moved[:, 1] = 0.5
        assert found.draws[:, 0] == near((moved @ w.T + b).exp().mean(0))
        own = ss.partial_dependence(
            net, guide, X, 1, at=[0.5], num_draws=S, to_target=lambda mean: 10 + 3 * mean
        )
        assert own.draws == near(10 + 3 * found.draws)

    def test_of_classes_has_a_line_each(self):
        net = ss.MLP(4, [3], prior=ss.SSIG(inclusion=0.5), likelihood=ss.CategoricalLikelihood(3))
        found = ss.partial_dependence(net, ss.StructuredGuide(net), X, "x1", num_draws=S)
        assert found.draws.shape == (S, 20, 3)
        assert found.draws.sum(-1) == near(np.ones((S, 20)))
        table = found.table()
        assert list(table.columns) == ["value", "class", "mean", "lower", "upper"]
        assert len(table) == 60

    def test_values_are_those_that_occur(self):
        net, guide, *_ = linear(ss.GaussianLikelihood())
        found = ss.partial_dependence(net, guide, X, "x1", num_points=7, num_draws=2)
        assert set(found.points) <= set(X[:, 0].double().tolist())
        assert found.points[[0, -1]].tolist() == [float(X[:, 0].min()), float(X[:, 0].max())]

    def test_bands_are_quantiles_of_the_draws(self):
        net, guide, *_ = linear(ss.GaussianLikelihood())
        found = ss.partial_dependence(net, guide, X, "x1", num_points=5, num_draws=S)
        table = found.table(0.8)
        assert table["lower"].to_numpy() == near(np.quantile(found.draws, 0.1, axis=0))
        assert table["upper"].to_numpy() == near(np.quantile(found.draws, 0.9, axis=0))
        assert found.centred().draws.mean(1) == near(np.zeros(S))
        with pytest.raises(ConfigurationError, match="probability of a band"):
            found.table(1.0)


class TestAccumulatedEffects:
    def test_of_a_linear_mean_is_a_line_that_averages_to_zero(self):
        net, guide, w, _ = linear(ss.GaussianLikelihood())
        found = ss.accumulated_effects(net, guide, X, "x3", num_points=11, num_draws=S)
        slopes = np.diff(found.draws, axis=1) / np.diff(found.points)
        assert slopes == near(w[:, 2:3].expand(-1, 10))
        bins = np.searchsorted(found.points, X[:, 2].double().numpy()).clip(1)
        middle = 0.5 * (found.draws[:, bins] + found.draws[:, bins - 1])
        assert middle.mean(1) == near(np.zeros(S))

    def test_stays_with_the_data_where_predictors_go_together(self):
        """x2 = x1: rows move within their bins only, so that a product has the effect of a square's derivative."""
        net, guide, w, b = linear(ss.PoissonLikelihood(), 2)
        x = X[:, :1].repeat(1, 2)
        found = ss.accumulated_effects(net, guide, x, 0, num_points=5, num_draws=S)
        v, edges = x[:, 0].double(), torch.from_numpy(found.points)
        bins = torch.bucketize(v.contiguous(), edges).clamp(1)
        for k in range(1, 5):
            rows = v[bins == k]
            low, high = (
                (w[:, :1] * edges[e] + w[:, 1:] * rows + b[:, None]).exp() for e in (k - 1, k)
            )
            assert np.diff(found.draws, axis=1)[:, k - 1] == near((high - low).mean(1))

    def test_of_a_factor_goes_from_level_to_level(self):
        net, guide, w, _ = linear(ss.GaussianLikelihood(), 5)
        x = torch.cat([X[:, :2], FACTOR], 1)
        found = ss.accumulated_effects(net, guide, x, ["x3", "x4", "x5"], num_draws=S)
        assert found.is_factor
        assert sorted(found.points) == ["x3", "x4", "x5"]
        of = {name: w[:, 2 + k] for k, name in enumerate(["x3", "x4", "x5"])}
        levels = torch.stack([of[name] for name in found.points], 1)
        assert found.draws == near(levels - levels.mean(1, keepdim=True))  # 50 rows each
        assert found.observed.tolist() == [50, 50, 50]

    def test_levels_follow_each_other_by_likeness(self):
        net, guide, *_ = linear(ss.GaussianLikelihood(), 4)
        level = torch.arange(150) % 3
        x = torch.cat([torch.tensor([0.0, 9.0, 5.0])[level][:, None] + 0.1 * X[:, :1], FACTOR], 1)
        found = ss.accumulated_effects(net, guide, x, ["x2", "x3", "x4"], num_draws=2)
        assert found.points.tolist() in (["x2", "x4", "x3"], ["x3", "x4", "x2"])


def test_a_factor_has_one_value_a_level_and_a_reference():
    net, guide, w, b = linear(ss.GaussianLikelihood(), 4)
    x = torch.cat([X[:, :2], FACTOR[:, 1:]], 1)
    found = ss.partial_dependence(net, guide, x, ["x3", "x4"], num_draws=S)
    assert found.points.tolist() == ["none of them", "x4", "x3"]
    assert found.predictor == "x3, x4"
    level = (w[:, :2] @ x[:, :2].double().mean(0) + b)[:, None]
    zero = torch.zeros(S, 1).double()
    assert found.draws == near(level + torch.cat([zero, w[:, 3:], w[:, 2:3]], 1))


class TestInteractions:
    def test_a_sum_has_none(self):
        net, guide, *_ = linear(ss.GaussianLikelihood())
        found = ss.interactions(net, guide, X, num_draws=S)
        assert len(found) == 6
        assert (found["mean"] < 1e-5).all()
        assert (found["probability"] == 0).all()

    def test_a_product_of_two_has_the_products_of_their_variances(self):
        """Through the exponential link, on two values each: m = exp(b) exp(w1 x1) exp(w2 x2) has closed forms."""
        net, guide, w, b = linear(ss.PoissonLikelihood(), 2)
        x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]).repeat(500, 1)
        found = ss.interactions(net, guide, x, num_draws=S, rows=2000)
        # a mixed difference is nonzero where both coordinates differ, in a quarter of the pairs
        size = ((w[:, 0].exp() - 1) * (w[:, 1].exp() - 1) * b.exp()).abs()
        expected = float((0.25 * 0.25 * size.square()).sqrt().mean())
        assert abs(found["mean"][0] / expected - 1) < 0.06  # a quarter of 2,000 pairs, +- 19
        m = torch.stack([(x[:4].double() @ w.T + b).exp()], 0)[0]
        share = (0.0625 * size.square() / m.var(0, correction=0)).mean()
        assert abs(found["share"][0] / float(share) - 1) < 0.12

    def test_pairs_are_ranked_and_named(self):
        net = ss.MLP(
            4,
            [6],
            prior=ss.SSIG(inclusion=0.5),
            likelihood=ss.GaussianLikelihood(),
            input_inclusion=0.5,
        )
        guide = ss.StructuredGuide(net)
        guide.fix_gates({"input": torch.tensor([True, True, False, True])})
        found = ss.interactions(net, guide, X, num_draws=10)
        assert len(found) == 3  # x3 is out
        assert "x3" not in set(found["first"]) | set(found["second"])
        assert found["mean"].is_monotonic_decreasing
        assert ((found["lower"] <= found["mean"]) & (found["mean"] <= found["upper"])).all()
        closed = ss.interactions(net, guide, X, ["x1", "x3"], num_draws=10)
        assert closed["mean"].tolist() == [0.0]
        factor = ss.interactions(net, guide, X, ["x1", ["x2", "x4"]], num_draws=10)
        assert factor["second"].tolist() == ["x2, x4"]


def test_memory_changes_nothing():
    net = ss.MLP(4, [6], prior=ss.SSGHS(inclusion=0.5), likelihood=ss.NegativeBinomialLikelihood())
    guide = ss.StructuredGuide(net)
    for effect in (ss.partial_dependence, ss.accumulated_effects):
        one, two = (
            effect(net, guide, X, "x1", num_draws=S, memory=m).draws for m in (2**28, 2**16)
        )
        assert one == near(two)
    one, two = (
        ss.interactions(net, guide, X, num_draws=S, memory=m)["mean"].to_numpy()
        for m in (2**28, 2**16)
    )
    assert one == near(two)


def test_nothing_is_left_behind(process_unchanged):
    net, guide, *_ = linear(ss.GaussianLikelihood())
    with process_unchanged():
        ss.partial_dependence(net, guide, X, "x1", num_draws=2)
        ss.accumulated_effects(net, guide, X, "x1", num_draws=2, rows=50)
        ss.interactions(net, guide, X, num_draws=2, rows=50)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda n, g: ss.partial_dependence(n, g, X, "age"),
            ConfigurationError,
            "no predictor 'age'",
        ),
        (lambda n, g: ss.partial_dependence(n, g, X, 7), ConfigurationError, "no predictor 7"),
        (lambda n, g: ss.partial_dependence(n, g, X, []), ConfigurationError, "each once"),
        (lambda n, g: ss.partial_dependence(n, g, 0 * X, "x1"), DataError, "is 0 in all rows"),
        (lambda n, g: ss.accumulated_effects(n, g, X, ["x1"]), DataError, "150 different settings"),
        (
            lambda n, g: ss.accumulated_effects(n, g, X, 0, num_points=1),
            ConfigurationError,
            "at least 2",
        ),
        (lambda n, g: ss.interactions(n, g, X, most=3), ConfigurationError, "there are 4"),
        (lambda n, g: ss.interactions(n, g, X, ["x1", "x1"]), ConfigurationError, "named twice"),
        (
            lambda n, g: ss.partial_dependence(n, g, X[:, :2], "x1"),
            DataError,
            r"x must be \[N, 4\]",
        ),
        (
            lambda n, g: ss.partial_dependence(n, g, X, ["x1"], at=[1.0]),
            ConfigurationError,
            "set to its levels",
        ),
    ],
)
def test_what_has_no_effect_is_refused(call, error, message):
    net, guide, *_ = linear(ss.GaussianLikelihood())
    with pytest.raises(error, match=message):
        call(net, guide)


class TestPlots:
    def test_a_line_with_bands_and_curves(self):
        net, guide, *_ = linear(ss.GaussianLikelihood())
        effect = ss.partial_dependence(net, guide, X, "x2", num_draws=S, curves=True)
        ax = ss.plots.plot_effect(effect)
        assert ax.get_xlabel() == "x2"
        lines = {line.get_label(): line for line in ax.lines}
        assert lines["posterior mean"].get_ydata() == near(effect.draws.mean(0))
        assert len(ax.lines) == 100 + 2  # curves, the mean, the ticks
        assert [c.get_label() for c in ax.collections] == ["90 % band", "50 % band"]
        plt.close(ax.figure)

    def test_levels_and_classes(self):
        net = ss.MLP(5, [3], prior=ss.SSIG(inclusion=0.5), likelihood=ss.CategoricalLikelihood(3))
        x = torch.cat([X[:, :2], FACTOR], 1)
        effect = ss.accumulated_effects(net, ss.StructuredGuide(net), x, [2, 3, 4], num_draws=5)
        ax = ss.plots.plot_effect(effect)
        assert [t.get_text() for t in ax.get_xticklabels()] == [f"{v}\n50" for v in effect.points]
        labels = [t.get_text() for t in ax.get_legend().get_texts()]
        assert labels == ["class 0", "class 1", "class 2"]
        plt.close(ax.figure)

    def test_interactions(self):
        net = ss.MLP(4, [3], prior=ss.SSIG(inclusion=0.5), likelihood=ss.GaussianLikelihood())
        table = ss.interactions(net, ss.StructuredGuide(net), X, num_draws=5)
        ax = ss.plots.plot_interactions(table, top=2)
        names = [t.get_text() for t in ax.get_yticklabels()]
        assert names[0].startswith(f"{table['first'][0]} × {table['second'][0]}, ")
        assert len(names) == 2
        plt.close(ax.figure)
        with pytest.raises(DataError, match="are missing"):
            ss.plots.plot_interactions(table.drop(columns="share"))


def test_a_centred_effect_has_mean_zero_in_every_draw_and_row():
    net, guide, w, _ = linear(ss.GaussianLikelihood())
    at = [-1.0, 0.0, 4.0]
    found = ss.partial_dependence(net, guide, X, "x3", at=at, num_draws=S, curves=True).centred()
    line = torch.tensor(at).double() - 1  # of mean 1
    assert found.draws == near(w[:, 2:3] * line)
    assert found.curves == near(w[:, 2].mean() * line.expand(len(found.curves), -1))


def test_a_probability_of_an_interval_and_a_number_of_pairs_are_checked():
    net, guide, *_ = linear(ss.GaussianLikelihood())
    with pytest.raises(ConfigurationError, match=r"strictly between 0 and 1; got 1\.5"):
        ss.interactions(net, guide, X, num_draws=4, probability=1.5)
    pairs = ss.interactions(net, guide, X, num_draws=4)
    with pytest.raises(ConfigurationError, match="top must be at least 1; got 0"):
        ss.plots.plot_interactions(pairs, top=0)
