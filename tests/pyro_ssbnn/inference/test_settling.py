"""Linear networks end at the optimum of their joint laws: the exact posterior where one block holds it."""

import math
from dataclasses import replace

import pyro
import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.distributions.blocks import MOST_SETS, gates_of
from pyro_ssbnn.distributions.coupled import gate_table
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.exact import linear_evidence
from pyro_ssbnn.inference.correlated_blocks import correlated_blocks
from pyro_ssbnn.inference.probable_sets import most_probable_sets
from pyro_ssbnn.inference.settling import _Settling
from pyro_ssbnn.posterior.draws import site_values, trace_draws
from pyro_ssbnn.structure.axes import Axis

QUICK = ss.TrainingOptions(epochs=3, dtype="float64", compile=False)


def data(p=5, rows=40, correlation=0.9, outputs=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    common, own = torch.randn(rows, 1, **options), torch.randn(rows, p, **options)
    x = 0.3 + correlation**0.5 * common + (1 - correlation) ** 0.5 * own
    f = 0.6 * x[:, :1] - 0.4 * x[:, -1:] + 0.5
    y = f + torch.randn(rows, max(outputs, 1), **options)
    return x, y if outputs else y[:, 0]


def network(p=5, prior=None, likelihood=None, inclusion=0.3):
    return ss.MLP(
        p,
        [],
        prior=ss.Gaussian(),
        output_prior=prior or ss.Gaussian(scale=0.5),
        likelihood=likelihood or ss.GaussianLikelihood(scale=1.0),
        input_inclusion=inclusion,
    )


def settled(net, x, y, dtype=torch.float64):
    guide = ss.BlockGuide(net).to(dtype=dtype)
    ss.settle(net, guide, x, y)
    return guide


def run(net, x, y, guide=None, centred=None):
    guide = guide or ss.BlockGuide(net).double()
    with torch.no_grad(), pyro.validation_enabled(False):
        return _Settling(net, guide, x, y, centred, 0).run()


def bound_of(net, x, y, blocks, monkeypatch):
    """The bound where blocks are these."""
    with monkeypatch.context() as patch:
        patch.setattr("pyro_ssbnn.inference.settling.correlated_blocks", lambda *_: blocks)
        return run(net, x, y).bound


def exact(x, y):
    return linear_evidence(x, y, noise_scale=1.0, inclusion=0.3, slab_scale=0.5)


def test_one_block_is_the_exact_posterior():
    x, y = data()
    net = network()
    guide = settled(net, x, y)
    evidence = exact(x, y)
    assert torch.allclose(guide.inclusion()["input"], evidence.inclusion()["input"], atol=1e-9)
    law = guide.gate_law("input").log_prob(evidence.structures.table).sum(-1)
    assert torch.allclose(law.exp(), evidence.probability, atol=1e-9)
    bound = ss.evaluate_bound(net, guide, x, y, num_draws=4000)
    assert bound.elbo == pytest.approx(evidence.log_marginal, abs=4 * bound.error + 1e-9)
    assert bound.error < 0.2


def test_log_bayes_factors_do_not_saturate():
    x, y = data(rows=200, correlation=0.0)
    y = y + 2 * x[:, 1]
    guide = settled(network(), x, y)
    evidence = exact(x, y)
    table, mass = evidence.structures.table.bool(), evidence.probability.log().unsqueeze(-1)
    never = mass.new_full((), -math.inf)
    odds = [torch.where(rows, mass, never).logsumexp(0) for rows in (table, ~table)]
    expected = odds[0] - odds[1] - math.log(0.3 / 0.7)
    found = ss.inclusion_summary(guide)["log_bayes_factor"].tolist()
    assert expected.max() > 30
    assert torch.allclose(torch.tensor(found).double(), expected, atol=1e-4)


def test_weights_have_the_exact_moments(check_mean):
    """Of the coefficients w, whose posterior is a mixture of Normals over all sets."""
    x, y = data(p=3)
    net = network(p=3)
    guide = settled(net, x, y)
    design = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    evidence = exact(x, y)
    mean, second = torch.zeros(4).double(), torch.zeros(4, 4).double()
    for gates, probability in zip(evidence.structures.table, evidence.probability, strict=True):
        mask = torch.cat([gates, torch.ones(1).double()])
        inside = design * mask
        covariance = torch.linalg.inv(inside.T @ inside + torch.eye(4) / 0.25)
        centre = covariance @ inside.T @ y
        covariance = covariance * mask * mask.unsqueeze(-1)
        mean += probability * centre
        second += probability * (covariance + torch.outer(centre, centre))
    draws = ss.draw_posterior(net, guide, 20_000, weights=True).weights["output"].squeeze(1)
    check_mean(draws, mean)
    check_mean((draws.unsqueeze(-1) * draws.unsqueeze(-2)).flatten(1), second.flatten())


def test_several_targets_share_the_gates():
    x, y = data(p=3, outputs=2)
    net = network(p=3, likelihood=ss.GaussianLikelihood(scale=1.0, num_targets=2))
    guide = settled(net, x, y)
    each = [linear_evidence(x, c, noise_scale=1.0, inclusion=0.3, slab_scale=0.5) for c in y.T]
    joint = sum(e.log_evidence for e in each) + each[0].structures.log_prior()
    expected = joint.softmax(0) @ each[0].structures.table
    assert torch.allclose(guide.inclusion()["input"], expected, atol=1e-9)


def test_blocks_that_do_not_correlate_lose_nothing():
    """Orthogonal, centred predictors: independent blocks are the exact posterior."""
    x, y = data(p=14, rows=60, correlation=0.0)
    x = torch.linalg.qr(x - x.mean(0)).Q * 8
    guide = settled(network(p=14), x, y)
    assert guide.to_config()["blocks"] == [[j] for j in range(14)]
    part = linear_evidence(x[:, :12], y, noise_scale=1.0, inclusion=0.3, slab_scale=0.5)
    found = guide.inclusion()["input"][:12]
    assert torch.allclose(found, part.inclusion()["input"], atol=1e-5)


def test_bound_of_several_blocks_lies_below_the_evidence_and_rises_with_their_size(monkeypatch):
    x, y = data(p=6, correlation=0.8)
    net = network(p=6)
    bounds = []
    for most in (1, 2, 3, 6):
        blocks = correlated_blocks(x, net.description.inputs.columns, most, most)
        bounds.append(bound_of(net, x, y, blocks, monkeypatch))
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[1] - 1e-3
    assert bounds[-1] == pytest.approx(exact(x, y).log_marginal)


def posterior_of_sets(x, y, inclusion):
    """Posterior probabilities of all sets of p predictors, ``[2^p]``, and the log evidence, from determinants."""
    n, p = x.shape
    table = gate_table(p, x)
    centre = torch.eye(n).double() + 0.25 * torch.ones(n, n).double()  # noise and the bias
    inverse = torch.linalg.inv(centre)
    gram, dots = x.T @ inverse @ x, x.T @ inverse @ y
    mask = table.unsqueeze(-1) * table.unsqueeze(-2)
    precision = mask * gram + 4 * torch.eye(p).double() * table.unsqueeze(-1)
    precision = precision + torch.diag_embed(1 - table)
    mean = torch.linalg.solve(precision, table * dots)
    size = table.sum(-1)
    joint = 0.5 * (mean * dots).sum(-1) - 0.5 * torch.logdet(precision) + size * math.log(2)
    joint = joint + size * math.log(inclusion / (1 - inclusion)) + p * math.log(1 - inclusion)
    rest = y @ inverse @ y + torch.logdet(centre) + n * math.log(2 * math.pi)
    return joint.softmax(0), float(joint.logsumexp(0) - 0.5 * rest)


def test_thirteen_that_correlate_are_one_block_and_exact():
    x, y = data(p=13, correlation=0.9)
    guide = settled(network(p=13, inclusion=0.15), x, y)
    mass, _ = posterior_of_sets(x, y, 0.15)
    assert guide.to_config()["blocks"] == [[*range(13)]]
    assert torch.allclose(guide.inclusion()["input"], mass @ gate_table(13, mass), atol=1e-9)


def test_sixteen_that_correlate_have_the_posterior_of_the_most_probable_sets(monkeypatch):
    """The law is the posterior given that one of its sets is the one; no other 16,384 sets have much more of it."""
    x, y = data(p=16, correlation=0.9)
    net = network(p=16, inclusion=0.15)
    guide = settled(net, x, y)
    mass, evidence = posterior_of_sets(x, y, 0.15)
    (block,) = guide.gate_law("input").blocks
    assert len(block.sets[0].unique()) == MOST_SETS
    listed = mass[block.sets[0]]
    assert torch.allclose(block.log_mass[0].exp(), listed / listed.sum(), atol=1e-9)
    assert float(listed.sum()) > float(mass.topk(MOST_SETS).values.sum()) - 1e-3
    draws = ss.draw_posterior(net, guide, 200, x=x, y=y)
    each = draws.log_likelihood.sum(-1) + draws.log_prior - draws.log_q
    bound = evidence + math.log(listed.sum())
    assert torch.allclose(each, torch.full_like(each, bound), atol=1e-6)
    halves = [[*range(8)], [*range(8, 16)]]
    assert bound_of(net, x, y, halves, monkeypatch) < bound - 0.01
    again = ss.BlockGuide(net, **guide.to_config()).double()
    again.load_state_dict(guide.state_dict())
    assert torch.equal(again.inclusion()["input"], guide.inclusion()["input"])
    sets = ss.credible_sets(guide, 0.9)
    assert sets
    for one in sets:
        hit = (gate_table(16, mass)[:, list(one.members)] > 0).any(-1)
        assert one.probability == pytest.approx(
            float((mass * hit)[block.sets[0]].sum() / listed.sum())
        )
        assert ss.set_inclusion(guide, one.members) == pytest.approx(one.probability)
        assert one.probability >= 0.9


@pytest.mark.parametrize("seed", range(3))
def test_the_search_finds_the_most_probable_sets(seed):
    """Scores of pairs as well as of single predictors, so that the best sets are not neighbours of each other."""
    generator = torch.Generator().manual_seed(seed)
    single = torch.randn(12, generator=generator, dtype=torch.float64) - 2
    pairs = 3 * torch.randn(12, 12, generator=generator, dtype=torch.float64).triu(1)

    def score(sets):
        gates = gates_of(sets, 12, single)
        return gates @ single + torch.einsum("ni,ij,nj->n", gates, pairs, gates)

    every = score(torch.arange(2**12))
    found = most_probable_sets(score, torch.zeros(1).long(), 12, 200)
    assert torch.equal(found, found.unique())
    best = every.log_softmax(0).topk(200).values.exp().sum()
    assert float(every.log_softmax(0)[found].exp().sum()) > float(best) - 1e-3
    flips = int(every.argmax()) ^ (1 << torch.arange(12))
    assert torch.isin(flips, found).all()


def test_noise_is_at_its_optimum(check_mean):
    """E[1/sigma^2] (E|y - f|^2/2 + b) = N/2 + a, the residuals by Monte Carlo."""
    x, y = data()
    net = network(likelihood=ss.GaussianLikelihood(concentration=2.0, rate=0.5))
    guide = settled(net, x, y)
    draws = ss.draw_posterior(net, guide, 20_000, x=x)
    squares = (draws.mean - y).square().sum(-1)
    law = guide.noise.variance
    precision = (-law.loc + 0.5 * (2 * law.log_scale).exp()).exp().detach()
    check_mean(precision * (0.5 * squares + 0.5), torch.tensor(22.0).double().expand(()))


@pytest.mark.parametrize(
    ("prior", "outputs", "centred"),
    [
        (ss.GroupLasso(), 0, None),
        (ss.GroupHorseshoe(), 0, None),
        (ss.GroupLasso(), 2, True),
        (ss.GroupHorseshoe(), 2, False),
    ],
    ids=["gl", "ghs", "gl of two targets", "ghs of two targets"],
)
def test_the_bound_the_ascent_climbs_is_the_one_evaluated(prior, outputs, centred, monkeypatch):
    """The closed form that chooses between families, against draws; and slab scales have moved to raise it."""
    monkeypatch.setattr("pyro_ssbnn.inference.settling._ROUNDS", 4)
    x, y = data(outputs=outputs)
    net = network(prior=prior, likelihood=ss.GaussianLikelihood(num_targets=max(outputs, 1)))
    guide = ss.BlockGuide(net).double()
    latents = [p.detach().clone() for p in guide.parameter_groups()["latents"]]
    found = run(net, x, y, guide, centred)
    guide.take_law(found.law)
    bound = ss.evaluate_bound(net, guide, x, y, num_draws=4000)
    assert found.bound == pytest.approx(bound.elbo, abs=4 * bound.error + 0.3)
    with torch.no_grad():
        for parameter, before in zip(guide.parameter_groups()["latents"], latents, strict=True):
            parameter.copy_(before)
    worse = ss.evaluate_bound(net, guide, x, y, num_draws=4000)
    assert worse.elbo + 4 * (worse.error + bound.error) < bound.elbo


def scales_of_a_horseshoe():
    """Values of the slab scale t with the cap 1, and the probability of the interval around each."""
    log_r = torch.linspace(-26, 26, 400, dtype=torch.float64) + 1e-3
    mass = log_r / torch.sinh(log_r / 2)  # of the product of two half-Cauchy variables, squared
    assert float(mass.sum() * log_r.diff()[0]) == pytest.approx(2 * math.pi**2, rel=1e-3)
    return log_r.sigmoid().sqrt(), mass / mass.sum()


@pytest.mark.parametrize("acting", [0.0, 1.0], ids=["no effect", "two effects"])
def test_gates_follow_a_slab_scale_that_the_data_leave_open(acting, monkeypatch):
    """The exact inclusion, with the slab scale integrated out by quadrature; a law that ignores it misses it by far."""
    x, y = data(correlation=0.0, rows=80, seed=1)
    y = y - (1 - acting) * (0.6 * x[:, 0] - 0.4 * x[:, -1] + 0.5)
    net = network(prior=ss.GroupHorseshoe())
    guide = settled(net, x, y)
    assert guide.to_config()["cells"] > 3
    scales, prior = scales_of_a_horseshoe()
    each = [
        linear_evidence(x, y, noise_scale=1.0, inclusion=0.3, slab_scale=float(t)) for t in scales
    ]
    log_evidence = torch.tensor([one.log_marginal for one in each]).double()
    posterior = (prior.log() + log_evidence).softmax(0)
    expected = posterior @ torch.stack([one.inclusion()["input"] for one in each])
    found = guide.inclusion()["input"]
    assert torch.allclose(found, expected, atol=0.03)
    assert abs(float((found - expected).mean())) < 0.015
    if not acting:
        monkeypatch.setattr("pyro_ssbnn.inference.settling._ROUNDS", 5)
        one_cell = ss.BlockGuide(net).double()
        one_cell.take_law(run(net, x, y, one_cell, centred=True).law)
        assert float((one_cell.inclusion()["input"] - expected).mean()) < -0.04


def test_draws_are_of_the_law_that_the_bound_is_of(check_mean, tmp_path):
    """Gates, weights and slab scales together: densities, marginals, means, and the same again from a file's record."""
    x, y = data(p=3)
    net = network(p=3, prior=ss.GroupHorseshoe())
    guide = ss.BlockGuide(net).double()
    found = run(net, x, y, guide)
    guide.take_law(found.law)
    draws = ss.draw_posterior(net, guide, 20_000, x=x, y=y, weights=True)
    each = draws.log_likelihood.sum(-1) + draws.log_prior - draws.log_q
    error = float(each.std()) / len(each) ** 0.5
    assert float(each.mean()) == pytest.approx(found.bound, abs=4 * error + 0.1)
    gates, weights = draws.latents["input.gate"], draws.weights["output"].squeeze(1)
    check_mean(gates, guide.inclusion()["input"])
    law = guide.gate_law("input")
    every = gate_table(3, x)
    seen = (gates.unsqueeze(1) == every).all(-1).double()
    check_mean(seen, law.log_prob(every).sum(-1).exp())
    for j in range(3):
        open = gates[:, j] == 1
        check_mean(weights[open, j : j + 1], guide.mean_weights("output")[0, j : j + 1])
    mask = torch.tensor([True, False, True])
    same = (gates == mask).all(-1)
    unit = guide.mean_slab_scale("output").unsqueeze(-1)
    check_mean(weights[same], (unit * guide.mean_standardized("output", {"input": mask}))[0])
    again = ss.BlockGuide(net, **guide.to_config()).double()
    again.load_state_dict(guide.state_dict())
    assert torch.equal(again.inclusion()["input"], guide.inclusion()["input"])


def test_pruned_network_has_the_exact_weights_given_what_is_kept():
    x, y = data()
    net = network()
    guide = settled(net, x, y)
    chosen = ss.select(guide.inclusion(), nodes={"input": 2})
    pruned = ss.prune(net, guide, chosen)
    kept = chosen.kept["input"]
    inside = torch.cat([x[:, kept], torch.ones(len(x), 1).double()], 1)
    expected = torch.linalg.solve(inside.T @ inside + torch.eye(3) / 0.25, inside.T @ y)
    found = pruned.network(x).squeeze(-1)
    assert torch.allclose(found, inside @ expected)
    drawn = ss.prune(net, guide, chosen, num_draws=500).network(x).squeeze(-1)
    assert torch.allclose(drawn.mean(0), inside @ expected, atol=0.2)


def test_fit_settles_and_goes_on_from_what_it_trained(tmp_path):
    x, y = data()
    whole = ss.fit(network(), x, y, QUICK, progress=False)
    assert whole.guide.settled
    assert torch.allclose(whole.guide.inclusion()["input"], exact(x, y).inclusion()["input"])
    options = replace(QUICK, decay_after=1.0, kl_warmup=0.0)
    half = ss.fit(network(), x, y, replace(options, epochs=2), progress=False)
    ss.save_fit(half, tmp_path / "half.st")
    again = ss.load_fit(tmp_path / "half.st")
    assert torch.equal(again.guide.inclusion()["input"], half.guide.inclusion()["input"])
    resumed = ss.fit(network(), x, y, options, resume=again, progress=False)
    straight = ss.fit(network(), x, y, options, progress=False)
    for name, value in straight.guide.state_dict().items():
        assert torch.equal(value, resumed.guide.state_dict()[name]), name
    assert again.guide.settled  # the earlier result stays as it is


def test_removed_predictors_come_back():
    """A predictor that left while the network was trained has the probability that the data give it."""
    x, y = data(correlation=0.0)
    options = ss.TrainingOptions(
        epochs=400, batch_size=40, gate_rate=0.5, remove_below=0.4, dtype="float64"
    )
    fitted = ss.fit(network(), x, y, options, progress=False)
    assert fitted.history.removed
    assert torch.allclose(fitted.guide.inclusion()["input"], exact(x, y).inclusion()["input"])


def test_guides_given_keep_their_family():
    x, y = data()
    net = network()
    given = ss.fit(net, x, y, QUICK, guide=ss.StructuredGuide(net), progress=False)
    assert type(given.guide) is ss.StructuredGuide
    with pytest.raises(ConfigurationError, match="expected a BlockGuide"):
        ss.settle(net, given.guide, x, y)
    with pytest.raises(ConfigurationError, match="without hidden layers"):
        ss.BlockGuide(ss.MLP(2, [2], prior=ss.SSIG(inclusion=0.5), likelihood=net.likelihood))
    with pytest.raises(ConfigurationError, match="no joint law"):
        ss.BlockGuide(net).gate_law("input")


def test_settling_leaves_the_process_as_it_was(process_unchanged):
    x, y = data()
    net = network(likelihood=ss.GaussianLikelihood())
    guide = ss.BlockGuide(net).double()
    with process_unchanged():
        ss.settle(net, guide, x, y)


def test_pyro_estimates_the_same_bound_of_it(check_mean):
    """Under Trace_ELBO, draw by draw, as under the closed-form KLs: log q and KL are those of one law."""
    x, y = data()
    net = network()
    guide = settled(net, x, y)
    expected = exact(x, y).log_marginal
    draws = ss.draw_posterior(net, guide, 2000, x=x, y=y)
    each = draws.log_likelihood.sum(-1) + draws.log_prior - draws.log_q
    # The exact posterior: the same number at every draw.
    assert torch.allclose(each, torch.full_like(each, expected), atol=1e-6)
    values = site_values(trace_draws(guide, 10))
    assert values["output.weight"].shape == (10, 1, 6)


def test_blocks_join_what_correlates_most_while_there_is_room():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(500, 2, generator=generator)
    noise = torch.randn(500, 6, generator=generator)
    x = torch.cat([z[:, :1] + 0.1 * noise[:, :3], z[:, 1:] + 0.1 * noise[:, 3:]], 1)
    each = Axis("input", 6)
    assert correlated_blocks(x, each) == [[0, 1, 2, 3, 4, 5]]  # there is room for all
    assert correlated_blocks(x, each, 3) == [[0, 1, 2], [3, 4, 5]]
    assert correlated_blocks(x, each, 2) == [
        [0, 1, 2],
        [3, 4, 5],
    ]  # what correlates so much goes on
    assert sorted(len(b) for b in correlated_blocks(x, each, 2, 2)) == [1, 1, 2, 2]
    assert correlated_blocks(noise, each, 3) == [[j] for j in range(6)]
    factors = Axis("input", 3, (2, 2, 2))  # the one in the middle has columns of either kind
    assert correlated_blocks(x, factors, 2, 2) in ([[0, 1], [2]], [[0], [1, 2]])


def test_a_predictor_of_several_columns_has_one_gate():
    """The posterior over sets of predictors, by the evidence of all sets of their columns."""
    x, y = data(p=5, correlation=0.5)
    net = ss.MLP(
        3,
        [],
        prior=ss.Gaussian(),
        output_prior=ss.Gaussian(scale=0.5),
        likelihood=ss.GaussianLikelihood(scale=1.0),
        input_inclusion=0.3,
        input_widths=(1, 3, 1),
    )
    guide = settled(net, x, y)
    evidence = exact(x, y)
    table = evidence.structures.table
    whole = (table[:, 1] == table[:, 2]) & (table[:, 2] == table[:, 3])
    gates = table[whole][:, [0, 1, 4]]
    log_mass = evidence.log_evidence[whole] + gates.sum(-1) * math.log(0.3 / 0.7)
    assert torch.allclose(guide.inclusion()["input"], log_mass.softmax(0) @ gates, atol=1e-9)
    draws = ss.draw_posterior(net, guide, 1000, x=x, y=y)
    each = draws.log_likelihood.sum(-1) + draws.log_prior - draws.log_q
    expected = float(log_mass.logsumexp(0) + 3 * math.log(0.7))
    assert torch.allclose(each, torch.full_like(each, expected), atol=1e-6)


def test_rows_count_by_their_weights():
    """A row of weight 2 is two rows, one of weight 0 none; also for the law of the noise."""
    x, y = data(rows=30)
    for likelihood in ({"scale": 1.0}, {"concentration": 2.0, "rate": 0.5}):
        weights = torch.tensor([0.0, 1.0, 2.0]).double().repeat(10)
        repeated = torch.arange(30).repeat_interleave(weights.long())
        net = network(likelihood=ss.GaussianLikelihood(**likelihood, weighted=True))
        plain = network(likelihood=ss.GaussianLikelihood(**likelihood))
        weighted = settled(net, x, torch.column_stack([y, weights]))
        expected = settled(plain, x[repeated], y[repeated])
        for name in ("inclusion", "mean_weights"):
            found, wanted = (
                g.inclusion()["input"] if name == "inclusion" else g.mean_weights("output")
                for g in (weighted, expected)
            )
            assert torch.allclose(found, wanted, atol=1e-4)


def test_blocks_from_elsewhere_are_refused():
    for blocks in ([[0, 1]], [[0, 1, 2, 3, 4, 4]], [[0, 1, 2, 3, 5]]):
        with pytest.raises(ConfigurationError, match="each of the 5 predictors once"):
            ss.BlockGuide(network(), blocks=blocks)
    with pytest.raises(ConfigurationError, match="at most 50"):
        ss.BlockGuide(network(p=51), blocks=[list(range(51))])
