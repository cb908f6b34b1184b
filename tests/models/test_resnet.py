"""Residual networks: their counts and formula, pruned equals masked, training that shrinks, files."""

import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, pad, relu

from pyro_ssbnn import (
    SSGHS,
    SSGL,
    SSIG,
    AnalyticELBO,
    CategoricalLikelihood,
    Gaussian,
    ResNet,
    Selection,
    StructuredGuide,
    TheoryInclusion,
    TrainingOptions,
    WideResNet,
    draw_posterior,
    fit,
    load_compact,
    load_fit,
    load_guide,
    prune,
    save_compact,
    save_fit,
)
from pyro_ssbnn.analysis import inclusion_summary, to_arviz
from pyro_ssbnn.errors import ConfigurationError, SelectionError
from pyro_ssbnn.guides.sites import LogNormalSite
from pyro_ssbnn.inference.guards import collapsed_layers
from pyro_ssbnn.inference.shrinking import LiveNetwork
from pyro_ssbnn.models import network_from_config
from pyro_ssbnn.models.layout import Layout
from pyro_ssbnn.posterior.draws import site_values, trace_draws
from pyro_ssbnn.posterior.weights import folded_weights
from pyro_ssbnn.structure.axes import put

SHAPE = (2, 7, 6)
X = torch.randn(5, math.prod(SHAPE), generator=torch.Generator().manual_seed(1)).double()
Y = torch.arange(5) % 3
PRIORS = {
    "ss-ig": SSIG(inclusion=0.3),
    "ss-gl": SSGL(inclusion=0.3),
    "ss-ghs": SSGHS(inclusion=0.3),
    "ss-ghs-random-cap": SSGHS(inclusion=0.3, cap=None),
}


def resnet(prior=PRIORS["ss-ghs"], **options):
    options = {"depth": 14, "widths": (3, 4, 7), **options}
    return ResNet(SHAPE, prior=prior, likelihood=CategoricalLikelihood(3), **options)


def wide(prior=PRIORS["ss-ghs"]):
    return WideResNet(SHAPE, 10, 2, prior=prior, likelihood=CategoricalLikelihood(3))


def projected(prior=PRIORS["ss-ghs"]):
    return resnet(prior, shortcuts="convolution", activation="silu")


def at_random(model):
    """A guide with random parameters, and random running statistics, in evaluation mode."""
    guide = StructuredGuide(model).double()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, value in model.double().state_dict().items():
            value.copy_(torch.rand_like(value) + (0.5 if "var" in name else -0.5))
    return model.eval(), guide


def chosen(model, **closed):
    """All members but some: ``{group: indices, or "all", or "all but one"}``; the rest open at random."""
    kept = {}
    for group in model.description.gated_layers:
        kept[group.name] = (torch.rand(group.size) < 0.6).nonzero().flatten()
        match closed.get(group.name):
            case "all":
                kept[group.name] = kept[group.name][:0]
            case "all but one":
                kept[group.name] = torch.randint(group.size, (1,))
    if not len(kept["stem"]):
        kept["stem"] = torch.tensor([1])
    sizes = {g.name: g.size for g in model.description.gated_layers}
    return Selection(kept, sizes, "at random")


def masked_draws(model, guide, selection, num_draws, seed):
    """Values of all sites, the gates set, of the draws that ``prune`` makes with this seed."""
    gates = {f"{k}.gate": selection.mask(k).double().expand(num_draws, -1) for k in selection.kept}
    torch.manual_seed(seed)
    with torch.no_grad():
        return site_values(trace_draws(poutine.condition(guide, data=gates), num_draws))


def draw_of(values, s, model):
    """Draw s alone; sites outside every node plate carry a dimension of 1."""
    nodes = {g.name for g in model.description.groups}
    return {k: v[s] if k.rpartition(".")[0] in nodes else v[s].squeeze() for k, v in values.items()}


def masked_mean(model, guide, selection):
    """Output of the Pyro model with the selection's gates and mean weights: t becomes a part of scale and shift."""
    plain = (
        type(model)
        .from_config({**model.to_config(), "prior": SSIG(inclusion=0.3).to_config()})
        .double()
    )
    plain.load_state_dict(model.state_dict())
    data = {f"{k}.gate": selection.mask(k).double() for k in selection.kept}
    for group in model.description.groups:
        weight = guide.mean_standardized(group.name).clone()
        t = guide.mean_slab_scale(group.name)
        if t is not None:
            weight[:, -2:] *= t.unsqueeze(-1)
        data[group.weight_site] = weight
    return poutine.condition(plain.eval().network, data=data)(X)


class TestCounts:
    @pytest.mark.parametrize(
        ("depth", "weights", "work"), [(20, 268_346, 40_551_050), (32, 461_882, 68_862_602)]
    )
    def test_cifar(self, depth, weights, work):
        """Convolutions without biases and the classifier with its own; batch norm is not counted."""
        model = ResNet(depth=depth, prior=SSIG(), likelihood=CategoricalLikelihood(10))
        assert model.description.num_weights == weights
        assert sum(g.multiply_adds for g in model.description.groups) == work
        pruning = prune(model, StructuredGuide(model))
        total = pruning.report.loc["total"]
        assert (total["weights"], total["weights_kept"]) == (weights, weights)
        assert (total["multiply_adds"], total["multiply_adds_kept"]) == (work, work)
        filters = sum(g.size for g in model.description.gated_layers)
        assert pruning.num_elements == weights + filters  # a folded bias each

    def test_a_filters_group_holds_its_batch_norm(self):
        model = ResNet(prior=SSGL(), likelihood=CategoricalLikelihood(10))
        group = model.description.layer("stage2_block1_conv1")
        assert (group.fan_in, group.group_size, group.prior_size) == (16 * 9, 146, 146)
        guide = StructuredGuide(model)
        own = guide.mean_standardized(group.name)[:, -2:]
        torch.testing.assert_close(guide.mean_slab_scale(group.name) * own[:, 0], torch.ones(32))
        assert (own[:, 1] == 0).all()

    def test_wide(self):
        model = WideResNet(depth=16, widen=4, prior=SSIG(), likelihood=CategoricalLikelihood(10))
        sizes = [g.size for g in model.description.gated_layers]
        assert sizes == [16] + [64] * 4 + [128] * 4 + [256] * 4
        assert model.description.sums[0].terms[0] == ("stem", tuple(range(24, 40)))

    def test_what_is_pruned_is_counted_like_the_tensors(self):
        model, guide = at_random(resnet())
        closed = {"stage1_block2_conv2": "all", "stage2_block1_conv1": "all"}
        selection = chosen(model, **closed)
        pruning = prune(model, guide, selection)
        report = pruning.report
        for name, layer in pruning.network.layers.items():
            counted = layer.weight.numel() + (len(layer.bias) if name == "output" else 0)
            assert report.loc[name, "weights_kept"] == counted
        # The first of a block whose last is closed is read by nobody.
        assert report.loc["stage1_block2_conv1", "nodes_kept"] == 0
        assert report.loc["stage2_block1_conv2", "weights_kept"] == 0
        assert len(pruning.network.kept["stage1_block2_conv1"]) == 0


@pytest.mark.parametrize("shortcuts", ["padded", "convolution"])
@pytest.mark.parametrize("training", [True, False])
def test_forward_is_the_formula(training, shortcuts):
    model, guide = at_random(resnet(shortcuts=shortcuts))
    model.train(training)
    values = site_values(poutine.trace(guide).get_trace())
    amplitude = {
        g.name: (values[f"{g.name}.gate"] if g.gated else 1.0)
        * (_slab_scale(g, values) if g.gated else 1.0)
        for g in model.description.groups
    }
    before = {k: v.clone() for k, v in model.state_dict().items()}
    seen = {}

    def layer(name, h, stride=1):
        u = values[f"{name}.weight"]
        side = 1 if name.endswith("shortcut") else 3
        f = conv2d(h, u[:, :-2].reshape(len(u), -1, side, side), None, stride, side // 2)
        seen[name] = f
        mean, var = (before[f"{name}.statistics.running_{v}"] for v in ("mean", "var"))
        if training:
            mean, var = f.mean((0, 2, 3)), f.var((0, 2, 3), unbiased=False)
        n = (f - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        f = n * u[:, -2, None, None] + u[:, -1, None, None]
        return f * amplitude[name][:, None, None]

    h = relu(layer("stem", X.reshape(-1, *SHAPE)))
    for stage, width in ((1, 3), (2, 4), (3, 7)):
        for block in (1, 2):
            name = f"stage{stage}_block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            f = layer(f"{name}_conv2", relu(layer(f"{name}_conv1", h, stride)))
            added = width - h.shape[1]
            if added and shortcuts == "convolution":
                h = relu(layer(f"{name}_shortcut", h, stride) + f)
                continue
            h = pad(h[..., ::stride, ::stride], (0, 0, 0, 0, added // 2, added - added // 2))
            h = relu(h + f)
    h = avg_pool2d(h, h.shape[-2:]).flatten(1)
    u = values["output.weight"]
    expected = h @ u[:, :-1].T + u[:, -1]
    actual = poutine.condition(model.network, data=values)(X)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)
    for name, value in model.state_dict().items():
        owner, _, kind = name.split(".")
        if not training:
            assert torch.equal(value, before[name])
            continue
        f = seen[owner].transpose(0, 1).flatten(1)
        batch = f.mean(1) if kind == "running_mean" else f.var(1)
        torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * batch)


def _slab_scale(group, values):
    local = {k: values[f"{group.name}.{k}"] for k in ("scale_a", "scale_b")}
    shared = {k: values[f"global.{k}"] for k in ("scale_a", "scale_b")}
    return group.prior.slab_scale(local, shared)


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
class TestContract:
    def test_pyros_elbo_and_ours_are_the_same_on_one_draw(self, prior):
        model, guide = at_random(resnet(prior, depth=8))
        for training, particles in ((True, 1), (True, 3), (False, 3)):
            model.train(training)
            pyros = TraceMeanField_ELBO(particles, vectorize_particles=True, max_plate_nesting=1)
            losses = []
            for elbo in (pyros, AnalyticELBO(particles)):
                torch.manual_seed(4)
                losses.append(elbo.loss(model, guide, X, Y, num_data=30))
            assert losses[0] == pytest.approx(losses[1], rel=1e-12)

    def test_sampled_and_closed_form_kl_agree(self, prior):
        model, _ = at_random(resnet(prior, depth=8))
        guide = StructuredGuide(model, initial_inclusion=0.6, initial_scale=1.0).double()
        means, errors = [], []
        sampled = Trace_ELBO(100, vectorize_particles=True, max_plate_nesting=1)
        for elbo in (sampled, AnalyticELBO(100)):
            losses = torch.tensor([elbo.loss(model, guide, X, Y) for _ in range(4)]).double()
            means.append(losses.mean())
            errors.append(losses.var() / len(losses))
        assert abs(means[0] - means[1]) < 6 * sum(errors).sqrt()

    @pytest.mark.parametrize("local", [False, True])
    def test_every_parameter_gets_a_finite_gradient(self, prior, local):
        """Also with local reparameterisation, where kernels without bias see nothing but zeros at some places."""
        model, guide = at_random(resnet(prior, depth=8))
        with torch.no_grad():
            for group in model.description.gated_layers:
                getattr(guide, group.name).gate.logits.fill_(2.0)
        x = X.clone()
        x[:, :30] = 0.0
        model.train()
        elbo = AnalyticELBO(6, local_reparameterization=local)
        elbo.loss_and_grads(model, guide, x, Y)
        for name, parameter in guide.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert (parameter.grad != 0).any(), name


class TestPrunedEqualsMasked:
    @pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
    @pytest.mark.parametrize("make", [resnet, wide, projected])
    def test_mean_and_draws_with_gates_closed_at_random(self, make, prior):
        model, guide = at_random(make(prior))
        for trial in range(3 if make is resnet else 1):
            torch.manual_seed(trial)
            self.check(model, guide, chosen(model), seed=trial)

    @pytest.mark.parametrize(
        "closed",
        [
            {"stage1_block1_conv1": "all"},
            {"stage1_block1_conv2": "all"},
            {"stage2_block1_conv1": "all", "stage3_block2_conv2": "all"},
            {"stage2_block1_conv2": "all", "stage2_block2_conv2": "all"},
            {f"stage{s}_block{b}_conv2": "all" for s in (1, 2, 3) for b in (1, 2)},
            {f"stage{s}_block{b}_conv1": "all" for s in (1, 2, 3) for b in (1, 2)},
            {
                "stem": "all but one",
                **{
                    f"stage{s}_block{b}_conv{c}": "all but one"
                    for s in (1, 2, 3)
                    for b in (1, 2)
                    for c in (1, 2)
                },
            },
        ],
    )
    def test_whole_layers_closed(self, closed):
        model, guide = at_random(resnet())
        for trial in range(3):
            torch.manual_seed(trial)
            self.check(model, guide, chosen(model, **closed), seed=trial)

    def check(self, model, guide, selection, seed):
        actual = prune(model, guide, selection).network(X)
        expected = masked_mean(model, guide, selection)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)
        values = masked_draws(model, guide, selection, 3, seed)
        pruned = prune(model, guide, selection, num_draws=3, seed=seed).network(X)
        assert pruned.shape == (3, len(X), 3)
        with pyro.plate("draws", 3, dim=-2):
            together = poutine.condition(model.network, data=values)(X)
        torch.testing.assert_close(pruned, together, rtol=0, atol=1e-10)
        for s in range(3):
            alone = poutine.condition(model.network, data=draw_of(values, s, model))(X)
            torch.testing.assert_close(pruned[s], alone, rtol=0, atol=1e-10)

    @pytest.mark.parametrize("activation", ["relu", "silu", "tanh", "elu", "leaky_relu", "gelu"])
    def test_every_activation_that_is_zero_at_zero(self, activation):
        model, guide = at_random(resnet(activation=activation))
        self.check(model, guide, chosen(model, stage1_block2_conv1="all"), seed=1)

    def test_an_empty_stream_is_refused_and_an_empty_block_is_not(self):
        model, guide = at_random(resnet())
        selection = chosen(model, stage1_block1_conv1="all", stem="all but one")
        prune(model, guide, selection)
        selection.kept["stem"] = selection.kept["stem"][:0]
        with pytest.raises(SelectionError, match=r"^stem would keep no member"):
            prune(model, guide, selection)

    def test_it_is_plain_torch_without_batch_norm(self):
        model, guide = at_random(resnet())
        selection = chosen(model, stem="all but one")
        compact = prune(model, guide, selection).network
        kinds = {type(m).__name__ for m in compact.modules() if not list(m.children())}
        assert kinds == {"CompactConv2d", "CompactLinear", "Addition", "ReLU"}
        stream = selection.kept["stem"]
        for block in (1, 2):
            stream = torch.cat([stream, selection.kept[f"stage1_block{block}_conv2"]]).unique()
            assert compact.sums[f"stage1_block{block}"].total.size == len(stream)


def test_folding_is_evaluation_mode():
    """Folded weights alone, as a convolution, give what the layer gives with its running statistics."""
    model, guide = at_random(resnet())
    values = site_values(poutine.trace(guide).get_trace())
    w = folded_weights(model, values)["stem"]
    x = X.reshape(-1, *SHAPE)
    actual = conv2d(x, w[:, :-1].reshape(3, 2, 3, 3), w[:, -1], padding=1)
    u, state = values["stem.weight"], model.state_dict()
    mean, var = (state[f"stem.statistics.running_{v}"] for v in ("mean", "var"))
    amplitude = values["stem.gate"] * _slab_scale(model.description.groups[0], values)
    y = conv2d(x, u[:, :-2].reshape(3, 2, 3, 3), padding=1)
    expected = batch_norm(y, mean, var, amplitude * u[:, -2], amplitude * u[:, -1])
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


class TestShrinking:
    DUE = {  # noqa: RUF012
        "stem": [0, 2],
        "stage1_block1_conv1": [1],
        "stage1_block1_conv2": [0],
        "stage1_block2_conv2": [0, 1],
        "stage2_block1_conv2": [0, 3],
        "stage2_block2_conv2": [0, 1, 3],
        "stage3_block1_conv2": [0, 1, 2, 6],
        "stage3_block2_conv2": [0, 1, 2, 3, 5],
    }

    def live(self, prior):
        model, guide = at_random(resnet(prior))
        live = LiveNetwork(model, guide)
        live.close({"stem": [2], "stage2_block1_conv2": [3], "stage3_block1_conv2": [0, 1]})
        live.narrow()
        live.close(
            {
                "stem": [0],
                "stage2_block1_conv2": [0],
                "stage3_block1_conv2": [2, 6],
                **{k: v for k, v in self.DUE.items() if "stage1" in k or "block2" in k},
            }
        )
        live.narrow()
        return live

    def test_the_description_carries_the_places(self):
        description = self.live(PRIORS["ss-ghs"]).model.description
        assert {s.name: (s.size, s.terms) for s in description.sums[:3]} == {
            # 0 left the stem and both convolutions, 1 is the stem's, 2 the convolutions'
            "stage1_block1": (2, (("stem", (0,)), ("stage1_block1_conv2", (0, 1)))),
            "stage1_block2": (2, (("stage1_block1", (0, 1)), ("stage1_block2_conv2", (1,)))),
            "stage2_block1": (2, (("stage1_block2", (0, 1)), ("stage2_block1_conv2", (0, 1)))),
        }
        layer = description.layer("stage2_block1_conv1")
        assert (layer.fan_in, layer.prior_size) == (2 * 9, 3 * 9 + 2)

    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("prior", ["ss-ig", "ss-gl", "ss-ghs-random-cap"])
    @torch.no_grad()
    def test_narrow_and_whole_network_have_the_same_output(self, prior, training):
        live = self.live(PRIORS[prior])
        live.model.train(training)
        live.whole_model.train(training)
        whole, draws = self.draws(live)
        expected = poutine.condition(live.whole_model.network, data=whole)(X)
        actual = poutine.condition(live.model.network, data=draws)(X)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)

    def draws(self, live):
        with torch.no_grad():  # both have the same names in Pyro's parameter store
            draws = site_values(poutine.trace(live.guide).get_trace())
            whole = site_values(poutine.trace(live.whole_guide).get_trace())
        kept = live.whole_model.description.with_sums(live.kept)
        nodes = {g.name: g for g in live.whole_model.description.groups}
        for site in whole:
            group = nodes.get(site.rpartition(".")[0])
            weight = group is not None and site == group.weight_site
            axes = () if group is None else (group.rows, group.columns)[: 1 + weight]
            put(whole[site], draws[site], axes, kept)
        for name, closed in self.DUE.items():
            whole[f"{name}.gate"][closed] = 0.0
        return whole, draws

    @pytest.mark.parametrize("prior", ["ss-ig", "ss-gl", "ss-ghs-random-cap"])
    @torch.no_grad()
    def test_bound_is_that_of_the_whole_with_closed_gates(self, prior):
        live = self.live(PRIORS[prior])
        kls = []
        for guide in (live.whole_guide, live.guide):  # KLs depend on the scales' draws
            for module in guide.modules():
                if isinstance(module, LogNormalSite):
                    module.log_scale.data.fill_(-30.0)
        for model, guide in ((live.whole_model, live.whole_guide), (live.model, live.guide)):
            with torch.no_grad():  # both guides have the same names in Pyro's parameter store
                kls.append(AnalyticELBO().terms(model, guide, X, Y).kl)
        whole, narrow = kls
        for name in whole:
            group, _, latent = name.rpartition(".")
            if latent == "gate":
                closed = -len(self.DUE.get(group, ())) * math.log1p(-0.3)
                torch.testing.assert_close(whole[name], narrow[name] + closed)
            elif group not in self.DUE or latent == "weight":
                torch.testing.assert_close(whole[name], narrow[name])

    def test_running_statistics_come_back_to_their_places(self):
        live = self.live(PRIORS["ss-ghs"])
        before = {k: v.clone() for k, v in live.whole_model.state_dict().items()}
        live.model.train()
        live.model.network(X)
        live.store()
        for name, after in live.whole_model.state_dict().items():
            group = name.split(".")[0]
            left = torch.ones(len(after), dtype=torch.bool)
            left[self.DUE.get(group, [])] = False
            assert (after[left] != before[name][left]).all()
            assert torch.equal(after[~left], before[name][~left])


def test_collapse_is_an_empty_stream():
    model = resnet()
    inclusion = {g.name: torch.full((g.size,), 0.9) for g in model.description.gated_layers}
    for name in inclusion:
        if name != "stem":
            inclusion[name] = inclusion[name] * 0.1
    assert collapsed_layers(model.description, inclusion) == []
    inclusion["stem"] = inclusion["stem"] * 0.1
    assert collapsed_layers(model.description, inclusion) == ["stem"]


class TestPosterior:
    def test_it_uses_and_keeps_running_statistics_and_the_mode(self):
        model, guide = at_random(resnet())
        model.train()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        draws = draw_posterior(model, guide, 4, x=X, y=Y, weights=True)
        one_row = draw_posterior(model, guide, 4, x=X[:1])
        assert model.training
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        torch.testing.assert_close(draws.mean[:, :1], one_row.mean)
        assert draws.weights["stem"].shape == (4, 3, 2 * 9 + 2)

    def test_analysis_names_what_a_filter_owns(self):
        model, guide = at_random(resnet(depth=8))
        data = to_arviz(model, guide, num_draws=3, weights=True)
        names = data["posterior"]["stage2_block1_conv1_incoming"].values
        assert names[0] == "stage1_block1[0].0"
        assert list(names[-2:]) == ["scale", "shift"]
        assert len(inclusion_summary(guide)) == sum(g.size for g in model.description.gated_layers)


class TestFit:
    X = torch.randn(24, 2 * 36, generator=torch.Generator().manual_seed(3))
    Y = (X[:, :36].mean(1) > 0).long()

    def fit(self, epochs=3, model=None, **options):
        if model is None:
            likelihood = CategoricalLikelihood(2)
            model = ResNet((2, 6, 6), 8, prior=SSIG(), likelihood=likelihood, widths=(3, 4, 5))
        chosen = {"epochs": epochs, "batch_size": 8, "num_particles": 2, "kl_warmup": 0.5}
        chosen |= {"local_reparameterization": False}
        return fit(model, self.X, self.Y, TrainingOptions(**chosen), progress=False, **options)

    def test_it_moves_the_statistics_and_ends_in_evaluation_mode(self):
        seen = []
        result = self.fit(callback=lambda epoch, r: seen.append(r.model.training))
        assert seen == [True] * 3
        assert not result.model.training
        state = result.model.state_dict()
        assert all((v != (1.0 if "var" in k else 0.0)).all() for k, v in state.items())

    def test_files_bring_the_statistics_along(self, tmp_path):
        result, file = self.fit(), tmp_path / "fit.safetensors"
        save_fit(result, file)
        loaded = load_fit(file)
        other = network_from_config(result.model.to_config())
        load_guide(file, other)
        for model in (loaded.model, other):
            assert not model.training
            for name, value in result.model.state_dict().items():
                assert torch.equal(value, model.state_dict()[name])

    def test_resumed_equals_uninterrupted(self, tmp_path):
        file = tmp_path / "fit.safetensors"

        def save(epoch, result):
            if epoch == 2:
                save_fit(result, file)

        whole = self.fit(callback=save)
        fresh = network_from_config(whole.model.to_config())
        resumed = self.fit(model=fresh, resume=load_fit(file))
        assert resumed.history.kl == whole.history.kl
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[name]), name


@pytest.mark.parametrize("num_draws", [None, 3])
def test_file_round_trip_of_the_pruned_network(tmp_path, num_draws):
    model, guide = at_random(resnet())
    selection = chosen(model, stage2_block2_conv2="all", stage1_block1_conv1="all")
    compact = prune(model, guide, selection, num_draws=num_draws).network
    save_compact(compact, tmp_path / "compact.safetensors")
    loaded = load_compact(tmp_path / "compact.safetensors")
    assert torch.equal(loaded(X), compact(X))
    assert loaded.to_config() == compact.to_config()
    for name, indices in compact.kept.items():
        assert torch.equal(loaded.kept[name], indices)


@pytest.mark.parametrize("make", [resnet, wide, projected])
def test_record_makes_the_network_again(make):
    model = make(PRIORS["ss-gl"])
    again = network_from_config(model.to_config())
    assert type(again) is type(model)
    assert again.to_config() == model.to_config()
    assert again.description == model.description


def test_one_inclusion_per_layer_and_ungated():
    inclusion = tuple(0.1 + 0.1 * i for i in range(7))
    model = resnet(SSIG(inclusion=inclusion), depth=8)
    assert tuple(g.inclusion for g in model.description.gated_layers) == inclusion
    model, guide = at_random(resnet(Gaussian(), depth=8))
    torch.testing.assert_close(prune(model, guide).network(X), masked_mean_ungated(model, guide))


def masked_mean_ungated(model, guide):
    data = {g.weight_site: guide.mean_standardized(g.name) for g in model.description.groups}
    return poutine.condition(model.network, data=data)(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 21}, r"depth must be 6n \+ 2"),
        ({"depth": 2}, r"depth must be 6n \+ 2"),
        ({"widths": (4, 4)}, "three stages"),
        ({"widths": (4, 3, 5)}, "cannot have fewer filters"),
        ({"widths": (0, 3, 5)}, "every width must be at least 1"),
        ({"activation": "softplus"}, "softplus of 0 is 0.693"),
        ({"prior": SSIG(inclusion=TheoryInclusion(50))}, "known for perceptrons only"),
        ({"prior": SSIG(inclusion=(0.1, 0.2))}, "2 probabilities for 13 hidden layers"),
    ],
)
def test_bad_networks_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        resnet(**options)


def test_a_network_is_not_narrower_than_its_own_width():
    with pytest.raises(ConfigurationError, match="widen must be at least 1; got 0"):
        WideResNet((3, 8, 8), 10, 0, prior=SSIG(), likelihood=CategoricalLikelihood(2))


def test_pixels_have_no_linear_terms():
    layout = Layout("Net", (3, 8, 8))
    with pytest.raises(ConfigurationError, match="the pixels of images have no linear terms"):
        layout.linear()
