"""The evidence of sets of predictors: exact where the network is linear, against autograd and importance sampling."""

import itertools
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import pyro_ssbnn as ss
from pyro_ssbnn.analysis.laplace import SetEvidence
from pyro_ssbnn.analysis.open_perceptron import OpenPerceptron
from pyro_ssbnn.exact import linear_evidence
from pyro_ssbnn.guides import CLOSED_LOGIT, OPEN_LOGIT

OPTIONS = ss.TrainingOptions(epochs=1, remove_below=None, dtype="float64", screen=False)


def begun(net, x, y, **gates):
    """A fit that has hardly begun, with these gates."""
    fit = ss.fit(net, x, y, OPTIONS, progress=False)
    for name, open in gates.items():
        mask = torch.tensor(open, dtype=torch.bool)
        with torch.no_grad():
            fit.guide.gate_logits(name).copy_(torch.where(mask, OPEN_LOGIT, CLOSED_LOGIT))
    return fit


def evidence_of(fit, x, y, share=1.0):
    network = OpenPerceptron(fit)
    return network, SetEvidence(fit, network, x.double(), y, share)


def noise(scale=0.7):
    return ss.GaussianLikelihood(scale=scale)


@pytest.fixture(scope="module")
def curved():
    """Two rows of hidden nodes, linear terms, a predictor of two columns, two outputs."""
    torch.manual_seed(0)
    x, y = torch.randn(25, 4).double(), torch.randn(25, 2).double()
    net = ss.MLP(
        3,
        [4, 3],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(scale=0.7, num_targets=2),
        input_inclusion=0.3,
        input_widths=[1, 2, 1],
        linear=True,
    )
    return begun(net, x, y, hidden1=[1, 0, 1, 1], hidden2=[1, 1, 0]), x, y


class TestOpenPerceptron:
    def test_with_all_columns_it_is_the_network_of_mean_weights(self, curved):
        fit, x, _ = curved
        network = OpenPerceptron(fit)
        inclusion = {n: (q > 0.5).double() for n, q in fit.guide.inclusion().items()}
        pruned = ss.prune(fit.model, fit.guide, selection=ss.select(inclusion)).network
        torch.testing.assert_close(network.outputs(network.mean, x), pruned(x), rtol=0, atol=1e-12)

    def test_closed_nodes_pass_on_their_constant(self):
        x, y = torch.randn(20, 2).double(), torch.randn(20).double()
        net = ss.MLP(
            2,
            [3],
            prior=ss.SSIG(inclusion=0.5),
            likelihood=noise(),
            input_inclusion=0.5,
            activation="sigmoid",
        )
        fit = begun(net, x, y, hidden1=[1, 0, 1], input=[1, 1])
        network = OpenPerceptron(fit)
        weights = {g: fit.guide.mean_weights(g) for g in ("hidden1", "output")}
        hidden = x @ weights["hidden1"][:, :-1].mT + weights["hidden1"][:, -1]
        masked = torch.sigmoid(hidden * torch.tensor([1.0, 0.0, 1.0]))
        expected = masked @ weights["output"][:, :-1].mT + weights["output"][:, -1]
        torch.testing.assert_close(network.outputs(network.mean, x), expected, rtol=0, atol=1e-12)

    def test_derivatives_are_those_of_autograd(self, curved):
        fit, x, _ = curved
        network = OpenPerceptron(fit)
        columns, linear = torch.tensor([1, 1, 1, 0]).bool(), torch.tensor([0, 1, 1, 1]).bool()
        masks = network.masks(columns, linear)
        at = network.flat(network.mean, masks)
        f, by_weights, _ = network.jacobian(network.shaped(at, masks), x, masks)

        def plain(vector):
            weights, h = network.shaped(vector, masks), x
            for layer in weights.layers[:-1]:
                h = torch.nn.functional.silu(h @ layer[:, :-1].mT + layer[:, -1])
            last = weights.layers[-1]
            return h @ last[:, :-1].mT + last[:, -1] + x @ weights.linear

        torch.testing.assert_close(f, plain(at), rtol=0, atol=1e-12)
        expected = torch.autograd.functional.jacobian(plain, at)
        torch.testing.assert_close(by_weights, expected, rtol=0, atol=1e-12)

    def test_another_network_is_refused(self):
        x, y = torch.randn(20, 2), torch.randn(20)
        net = ss.MLP(2, [], prior=ss.SSIG(inclusion=0.5), likelihood=noise(), input_inclusion=0.5)
        fit = ss.fit(net, x, y, ss.TrainingOptions(epochs=1), progress=False)
        with pytest.raises(ss.errors.ConfigurationError, match="an MLP with hidden layers"):
            OpenPerceptron(fit)


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(1)
    x = torch.randn(40, 4).double()
    x[:, 1] = 0.9 * x[:, 0] + 0.4 * x[:, 1]
    y = x[:, 0] + 0.3 * x[:, 3] + 0.7 * torch.randn(40).double()
    prior = ss.SSIG(inclusion=0.3, scale=0.8)
    net = ss.MLP(
        4,
        [2],
        prior=prior,
        likelihood=noise(),
        output_prior=ss.Gaussian(0.8),
        input_inclusion=0.3,
        linear=True,
        linear_inclusion=0.3,
    )
    return begun(net, x, y, hidden1=[0, 0]), x, y


class TestLinearTermsAlone:
    """Without an open node the network is linear, and Laplace's method exact."""

    def test_evidence_is_exact(self, linear):
        fit, x, y = linear
        network, evidence = evidence_of(fit, x, y)
        exact = linear_evidence(x, y, noise_scale=0.7, inclusion=0.3, slab_scale=0.8)
        none, found = torch.zeros(4, dtype=torch.bool), []
        for row in exact.structures.table:
            found.append(evidence.mode(network.mean, none, row.bool(), -math.inf).evidence)
        ours = torch.tensor(found) - found[0]
        torch.testing.assert_close(
            ours, (exact.log_evidence - exact.log_evidence[0]).to(ours), rtol=0, atol=1e-5
        )

    def test_a_further_member_is_judged_exactly(self, linear):
        fit, x, y = linear
        network, evidence = evidence_of(fit, x, y)
        none, own = torch.zeros(4, dtype=torch.bool), torch.tensor([1, 0, 0, 0]).bool()
        mode = evidence.mode(network.mean, none, own, -math.inf)
        eye = torch.eye(4, dtype=torch.bool)
        gains = evidence.gains(mode, none, own, {("linear", j): eye[j] for j in (1, 2, 3)})
        for j in (1, 2, 3):
            wider = evidence.mode(network.mean, none, own | eye[j], -math.inf).evidence
            assert gains["linear", j] == pytest.approx(wider - mode.evidence, abs=1e-5)

    def test_the_law_is_the_posterior(self, linear):
        fit, x, y = linear
        law = ss.predictor_law(fit, x, y)
        exact = linear_evidence(x, y, noise_scale=0.7, inclusion=0.3, slab_scale=0.8).inclusion()[
            "input"
        ]
        torch.testing.assert_close(law.of_gates()["linear"], exact.double(), rtol=0, atol=2e-3)
        # No node is open: what predictors do nonlinearly is unknown as before.
        torch.testing.assert_close(law.of_gates()["input"], torch.full((4,), 0.3).double())
        either = 1 - 0.7 * (1 - law.of_gates()["linear"])
        torch.testing.assert_close(law.inclusion()["input"], either)

    def test_noise_is_integrated_out(self, linear):
        """Against quadrature over the noise variance of the exact evidence given it."""
        _, x, y = linear
        likelihood = ss.GaussianLikelihood(concentration=3.0, rate=1.5)
        net = ss.MLP(
            4,
            [2],
            prior=ss.SSIG(inclusion=0.3, scale=0.8),
            likelihood=likelihood,
            output_prior=ss.Gaussian(0.8),
            input_inclusion=0.3,
            linear=True,
            linear_inclusion=0.3,
        )
        law = ss.predictor_law(begun(net, x, y, hidden1=[0, 0]), x, y)
        logs = torch.linspace(-3.5, 2.0, 111).double()
        variance = InverseGammaLog(3.0, 1.5)
        total = []
        for value in logs:
            given = linear_evidence(
                x, y, noise_scale=math.exp(value / 2), inclusion=0.3, slab_scale=0.8
            )
            joint = given.log_evidence + given.structures.log_prior()
            total.append(joint + variance(value))
        exact = torch.stack(total).logsumexp(0).softmax(0) @ given.structures.table.double()
        # Laplace's part is the weights given the noise: a few thousandths at 40 rows.
        torch.testing.assert_close(law.of_gates()["linear"], exact, rtol=0, atol=0.02)


class InverseGammaLog:
    """Log density of the logarithm of an InverseGamma(a, rate b) variable, up to a constant."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __call__(self, log):
        return -self.a * log - self.b * (-log).exp()


@pytest.mark.parametrize("known", [True, False], ids=["known noise", "noise integrated out"])
def test_evidence_of_a_curved_network_agrees_with_importance_sampling(known):
    """Ratios of p(y | z) of sets, estimated without bias around each mode."""
    torch.manual_seed(2)
    x = torch.randn(120, 2).double()
    y = 2 * torch.tanh(x[:, 0] - 0.5) + 0.4 * x[:, 1] + 0.3 * torch.randn(120).double()
    likelihood = noise(0.3) if known else ss.GaussianLikelihood(concentration=3.0, rate=0.5)
    net = ss.MLP(
        2,
        [1],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=likelihood,
        input_inclusion=0.5,
        activation="tanh",
    )
    fit = begun(net, x, y, hidden1=[1])
    network, evidence = evidence_of(fit, x, y)
    none, differences = torch.zeros(0, dtype=torch.bool), []
    for columns in itertools.product([False, True], repeat=2):
        if not columns[0]:
            continue
        columns = torch.tensor(columns)
        mode = evidence.mode(network.mean, columns, none, -math.inf)
        masks = network.masks(columns, none)
        precision = network.flat(network.precision, masks)
        _, jacobian, _ = network.jacobian(mode.weights, x, masks)
        f = network.outputs(mode.weights, x)
        curvature = evidence._normal(jacobian, evidence._slopes(f)) + torch.diag(precision)
        law = MultivariateNormal(
            network.flat(mode.weights, masks), precision_matrix=curvature / 1.3
        )
        draws = law.sample((4000,))
        score = torch.stack([evidence._score(draw, masks, precision) for draw in draws])
        log_weights = score + 0.5 * precision.log().sum() - law.log_prob(draws)
        # The constant (2 pi)^(d/2) that densities have and ours leave out.
        log_weights -= 0.5 * len(precision) * math.log(2 * math.pi)
        relative = (log_weights - log_weights.max()).exp()
        estimate = float(log_weights.logsumexp(0) - math.log(len(draws)))
        error = float(relative.std() / relative.mean() / math.sqrt(len(draws)))
        assert error < 0.05
        differences.append(mode.evidence - estimate)
    # Laplace's own error at 120 rows, and what it says of the two sets beside each other.
    assert max(map(abs, differences)) < 0.35
    assert abs(differences[0] - differences[1]) < 0.2


def test_each_row_may_stand_for_several(curved):
    fit, x, y = curved
    columns, linear = torch.tensor([1, 1, 1, 0]).bool(), torch.zeros(4, dtype=torch.bool)
    network, half = evidence_of(fit, x, y, share=2.0)
    _, twice = evidence_of(fit, torch.cat([x, x]), torch.cat([y, y]))
    found = [e.mode(network.mean, columns, linear, -math.inf).evidence for e in (half, twice)]
    assert found[0] == pytest.approx(found[1], abs=1e-6)


LIKELIHOODS = {
    "bernoulli": (ss.BernoulliLikelihood(), lambda f: (f > 0).double()),
    "categorical": (ss.CategoricalLikelihood(3), lambda f: (f > 0).long() + (f > 1).long()),
    "poisson": (ss.PoissonLikelihood(), lambda f: torch.poisson(f.clamp(-3, 2).exp())),
    "student": (ss.StudentTLikelihood(), lambda f: f + 0.3 * torch.randn_like(f)),
    "heteroscedastic": (ss.HeteroscedasticLikelihood(), lambda f: f + 0.3 * torch.randn_like(f)),
    "weighted": (
        ss.GaussianLikelihood(weighted=True),
        lambda f: torch.stack([f + 0.3 * torch.randn_like(f), torch.ones_like(f)], 1),
    ),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_under_every_likelihood_the_mode_is_one_and_the_real_predictor_has_the_evidence(name):
    torch.manual_seed(3)
    likelihood, draw = LIKELIHOODS[name]
    x = torch.randn(150, 2).double()
    y = draw(2 * x[:, 0])
    net = ss.MLP(2, [2], prior=ss.SSIG(inclusion=0.5), likelihood=likelihood, input_inclusion=0.3)
    fit = begun(net, x, y, hidden1=[1, 1])
    network, evidence = evidence_of(fit, x, y)
    none, found = torch.zeros(0, dtype=torch.bool), {}
    for columns in itertools.product([False, True], repeat=2):
        mask = torch.tensor(columns)
        mode = evidence.mode(network.mean, mask, none, -math.inf)
        found[columns] = mode.evidence
        masks = network.masks(mask, none)
        at = network.flat(mode.weights, masks)
        precision = network.flat(network.precision, masks)
        best = evidence._score(at, masks, precision)
        for _ in range(20):
            near = at + 0.05 * torch.randn_like(at)
            assert evidence._score(near, masks, precision) < best + 0.05
    assert found[True, False] > found[False, True] + 10
    assert found[True, False] > found[False, False] + 10
