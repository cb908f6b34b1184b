"""Any module as a network: the same function, cut exactly, refused where it cannot be read."""

import copy
import re

import pytest
import torch
from modules import MODULES, Words, joined, made
from pyro import poutine
from torch import nn

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.inference.shrinking import LiveNetwork
from pyro_ssbnn.posterior.draws import site_values, trace_draws
from pyro_ssbnn.structure.axes import put


def network_of(module, x, prior=None):
    size = joined(module(x)).shape[1]
    prior = ss.SSIG(inclusion=0.3) if prior is None else prior
    return ss.from_module(
        module, prior=prior, likelihood=ss.CategoricalLikelihood(size), example=x
    ).eval()


def open_gates(network):
    return {g.gate_site: torch.ones(g.size).double() for g in network.description.gate_groups}


def values_of(network, module):
    weights = network.weights_of(module)
    return {group.weight_site: weights[group.name] for group in network.description.groups}


def at_random(network, seed=1):
    """A selection of about half of the nodes, one of each layer at least."""
    generator = torch.Generator().manual_seed(seed)
    layers = network.description.gated_layers
    kept = {
        g.name: (torch.rand(g.size, generator=generator) < 0.5)
        .index_fill(0, torch.randint(g.size, (1,), generator=generator), True)
        .nonzero()
        .flatten()
        for g in layers
    }
    return ss.Selection(kept, {g.name: g.size for g in layers}, "at random")


def close(actual, expected):
    return actual.shape == expected.shape and actual.allclose(expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", MODULES)
class TestModules:
    @torch.no_grad()
    def test_the_network_of_the_modules_weights_is_the_module(self, name):
        module, x = made(name)
        network = network_of(module, x)
        data = {**values_of(network, module), **open_gates(network)}
        assert close(poutine.condition(network.network, data=data)(x.flatten(1)), joined(module(x)))

    @torch.no_grad()
    def test_pruned_equals_masked(self, name):
        module, x = made(name)
        network = network_of(module, x)
        guide = ss.StructuredGuide(network).double()
        guide.start_from(network.weights_of(module))
        selection = at_random(network)
        masks = {f"{k}.gate": selection.mask(k).double() for k in selection.kept}
        data = {**values_of(network, module), **masks}
        masked = poutine.condition(network.network, data=data)(x.flatten(1))
        assert not masked.allclose(joined(module(x)))
        pruning = ss.prune(network, guide, selection)
        assert close(pruning.network(x.flatten(1)), masked)
        plain = ss.plain_module(pruning.network)
        assert close(joined(plain(x)), masked)
        assert type(plain(x)) is type(module(x))
        # Closed nodes take no part, and what is left of layers has their names.
        numbers = sum(p.numel() for p in plain.parameters())
        assert numbers < sum(p.numel() for p in module.parameters())
        layers = {k for k, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
        assert layers <= {k for k, _ in plain.named_modules()}

    @torch.no_grad()
    def test_pruned_draws_equal_masked_draws(self, name):
        module, x = made(name)
        network = network_of(module, x, ss.SSGHS(inclusion=0.3))
        guide = ss.StructuredGuide(network).double()
        selection = at_random(network)
        pruned = ss.prune(network, guide, selection, num_draws=3, seed=2).network
        masks = {f"{k}.gate": selection.mask(k).double().expand(3, -1) for k in selection.kept}
        torch.manual_seed(2)
        values = site_values(trace_draws(poutine.condition(guide, data=masks), 3))
        nodes = {g.name for g in network.description.groups}
        for s in range(3):
            draw = {
                k: v[s] if k.rpartition(".")[0] in nodes else v[s].squeeze()
                for k, v in values.items()
            }
            masked = poutine.condition(network.network, data=draw)(x.flatten(1))
            assert close(pruned(x.flatten(1))[s], masked)

    def test_a_whole_network_narrowed_in_training_computes_the_same(self, name):
        module, x = made(name)
        network = network_of(module, x, ss.SSGL(inclusion=0.3))
        live = LiveNetwork(network, ss.StructuredGuide(network).double())
        groups = [g for g in network.description.gated_layers if network.passes_nothing(g.name)]
        closed = {g.name: [0, g.size - 1] if g.size > 2 else [0] for g in groups}  # not all of them
        live.close(closed)
        live.narrow()
        with torch.no_grad():
            draws = site_values(poutine.trace(live.guide).get_trace())
            whole = site_values(poutine.trace(live.whole_guide).get_trace())
            axes, kept = live.whole_guide.parameter_axes(), live.kept
            places = network.description.with_sums(kept)
            for group in network.description.groups:
                for key, of in (
                    (f"{group.path}.variance", "scales"),
                    (group.weight_site, "weight"),
                ):
                    found = [a for n, a in axes.items() if n.startswith(f"{group.name}.{of}")]
                    if key in draws:
                        put(whole[key], draws[key], found[0], places)
            for group in network.description.gated_layers:
                put(whole[group.gate_site], draws[group.gate_site], (group.rows,), places)
                if group in groups:
                    whole[group.gate_site][closed[group.name]] = 0.0
            shared = {k: v for k, v in draws.items() if k.startswith(("global", "output.global"))}
            f = poutine.condition(live.model.network, data=draws)(x.flatten(1))
            expected = poutine.condition(network.network, data={**whole, **shared})(x.flatten(1))
        assert close(f, expected)

    def test_its_record_makes_it_again(self, name, tmp_path):
        module, x = made(name)
        network = network_of(module, x)
        again = ss.TracedNetwork.from_config(network.to_config()).double().eval()
        assert repr(again) == repr(network)
        again.load_state_dict(network.state_dict())
        guide = ss.StructuredGuide(network).double()
        selection = at_random(network)
        one, other = (ss.prune(net, guide, selection).network for net in (network, again))
        ss.save_compact(one, tmp_path / "network.safetensors")
        loaded = ss.load_compact(tmp_path / "network.safetensors")
        with torch.no_grad():
            for pruned in (other, loaded):
                assert close(pruned(x.flatten(1)), one(x.flatten(1)))


def test_rank_one_flips_know_one_activation_only():
    """Every activation of a traced network is an operation: its gates are not flipped behind the network's own."""
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    network = network_of(module, torch.randn(3, 4))
    assert not network.description.is_dense


class TestWhatIsCutTogether:
    def treatments(self, name):
        module, x = made(name)
        return network_of(module, x).report()["treatment"].to_dict()

    def test_a_layer_goes_with_the_depthwise_convolution_that_reads_it(self):
        module, x = made("Separable")
        network = network_of(module, x)
        follows = {"first_0": "first_3", "expand": "depthwise", "excite": "depthwise"}
        assert dict(network.description.follows) == follows
        treatments = network.report().loc[list(follows), "treatment"]
        assert set(treatments) == {"cut with"}
        kept = {"depthwise": torch.tensor([1, 4])}
        narrowed = network.description.narrowed(kept)
        assert [narrowed.layer(n).size for n in ("expand", "depthwise", "excite")] == [2, 2, 2]

    def test_a_grouped_convolution_keeps_its_channels(self):
        treatments = self.treatments("Sequence")
        assert treatments == {
            "conv": "ungated",
            "grouped": "ungated",
            "narrow": "gated",
            "last": "ungated",
        }

    def test_followers_of_followers_leave_with_them(self):
        description = network_of(*made("Gated")).description
        assert description.follows == (("value", "depthwise"), ("gate", "value"))
        narrowed = description.narrowed({"depthwise": torch.tensor([1, 4])})
        assert [group.size for group in narrowed.groups] == [2, 2, 2, 3]

    def test_a_node_of_attention_is_a_head(self):
        module, x = made("Transformer")
        network = network_of(module, x)
        gated = {g.name: (g.size, g.num_rows) for g in network.description.gated_layers}
        assert gated == {
            "encoder_0_attention_value": (3, 12),
            "encoder_0_narrow_0": (8, 8),
            "encoder_1_attention_value": (4, 12),
            "encoder_1_narrow_0": (6, 6),
        }
        narrowed = network.description.narrowed({"encoder_0_attention_value": torch.tensor([2])})
        sizes = [narrowed.layer(f"encoder_0_attention_{p}").num_rows for p in ("query", "key")]
        assert sizes == [4, 4]
        assert narrowed.layer("encoder_0_attention_out").fan_in == 4

    @torch.no_grad()
    def test_words_are_embedded(self):
        torch.manual_seed(0)
        module = Words().double().eval()
        words = torch.randint(20, (4, 5))
        network = ss.from_module(
            module, prior=ss.SSIG(), likelihood=ss.CategoricalLikelihood(3), example=words
        ).eval()
        data = {**values_of(network, module), **open_gates(network)}
        assert close(poutine.condition(network.network, data=data)(words.double()), module(words))

    @pytest.mark.parametrize("name", ["Separable", "Transformer"])
    def test_weights_in_arviz_have_names_of_their_own(self, name):
        module, x = made(name)
        network = network_of(module, x, ss.SSGHS(inclusion=0.3))
        guide = ss.StructuredGuide(network).double()
        posterior = ss.to_arviz(network, guide, num_draws=3, weights=True)["posterior"]
        for group in network.description.groups:
            shape = posterior[f"{group.name}.weight"].shape[2:]
            assert shape == (group.num_rows, group.group_size)

    def test_layers_with_a_forward_of_their_own_are_gated(self):
        module, x = made("OwnForwards")
        report = network_of(module, x).report()
        assert report["module"].tolist() == ["conv1", "conv2", "hidden", "last"]
        assert report["treatment"].tolist() == ["gated", "gated", "gated", "ungated"]

    def test_dropout_is_removed_and_said(self):
        module, x = made("Residual")
        report = network_of(module, x).report()
        assert report.loc["dropout", "treatment"] == "removed"

    def test_what_mixes_nodes_leaves_them_ungated_and_says_so(self):
        class Softened(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.last = nn.Linear(4, 6), nn.Linear(3, 2)

            def forward(self, x):
                return self.last(self.first(x)[:, ::2])

        module, x = Softened().double(), torch.randn(3, 4).double()
        network = network_of(module, x)
        assert network.description.gated_layers == ()
        assert network.report().loc["first", "reason"] == "getitem takes some of the nodes"
        data = values_of(network, module)
        assert close(poutine.condition(network.network, data=data)(x), module(x))

    def test_padding_beside_a_constant_leaves_the_filters_ungated(self):
        module = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.Sigmoid(), nn.Conv2d(3, 2, 3, padding=1), nn.Flatten()
        )
        x = torch.randn(2, 1, 4, 4)
        network = network_of(module, x)
        assert "pads its maps with zeros" in network.report().loc["layer_0", "reason"]

    def test_layers_that_are_to_stay_whole(self):
        module, x = made("ResNet")
        network = ss.from_module(
            module,
            prior=ss.SSIG(inclusion=[0.1, 0.2, 0.3, 0.4, 0.5]),
            likelihood=ss.CategoricalLikelihood(3),
            example=x,
            ungated=["stem"],
        )
        assert network.report().loc["stem", "reason"] == "by choice"
        inclusion = [g.inclusion for g in network.description.gated_layers]
        assert inclusion == [0.1, 0.2, 0.3, 0.4, 0.5]


class TestTheModule:
    def test_is_not_changed(self, process_unchanged):
        module, x = made("DenseNet")
        module.train()
        module.norm.eval()  # a mode of its own
        module.conv.weight.requires_grad_(False)
        joined(module(x)).sum().backward()
        handle = module.last.register_forward_hook(lambda *_: None)

        def seen():
            tensors = [*module.named_parameters(), *module.named_buffers()]
            return [
                {name: id(value) for name, value in tensors},
                {name: (v.requires_grad, v.dtype) for name, v in tensors},
                {name: (m.training, list(m._forward_hooks)) for name, m in module.named_modules()},
            ]

        before, state = seen(), copy.deepcopy(module.state_dict())
        grads = {k: p.grad.clone() for k, p in module.named_parameters() if p.grad is not None}
        with process_unchanged():
            network = ss.from_module(
                module, prior=ss.SSIG(), likelihood=ss.CategoricalLikelihood(3), example=x
            )
        network.to(torch.float32)
        assert seen() == before
        assert handle.id in module.last._forward_hooks
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
        assert all(
            torch.equal(dict(module.named_parameters())[k].grad, g) for k, g in grads.items()
        )

    def test_plain_modules_can_be_trained_saved_and_exported(self):
        module, x = made("Separable")
        network = network_of(module, x)
        guide = ss.StructuredGuide(network).double()
        pruned = ss.prune(network, guide, at_random(network)).network
        before = pruned(x.flatten(1))
        plain, other = ss.plain_module(pruned), ss.plain_module(pruned)
        optimizer = torch.optim.SGD(plain.parameters(), 0.1)
        plain(x).square().sum().backward()
        assert all(p.grad is not None for p in plain.parameters())
        optimizer.step()
        other.load_state_dict(plain.state_dict())
        assert close(other(x), plain(x))
        assert torch.equal(pruned(x.flatten(1)), before)
        batch = torch.export.Dim("batch")
        program = torch.export.export(plain, (x,), dynamic_shapes=({0: batch},), strict=False)
        assert close(program.module()(x[:3]), plain(x[:3]))
        with pytest.raises(DataError, match=r"x must be \[N, 2, 6, 6\]; got \[5, 72\]"):
            plain(x.flatten(1))

    def test_plain_modules_are_made_of_traced_networks_only(self):
        model = ss.MLP(3, [4], prior=ss.SSIG(), likelihood=ss.GaussianLikelihood())
        pruned = ss.prune(model, ss.StructuredGuide(model)).network
        with pytest.raises(ConfigurationError, match="of a torch module"):
            ss.plain_module(pruned)


class TestRefused:
    def refusal(self, forward, x=None, **parts):
        module = nn.Module()
        for name, part in parts.items():
            module.add_module(name, part)
        kind = type("Odd", (nn.Module,), {"forward": lambda self, x: forward(self, x)})
        module.__class__ = kind
        x = torch.randn(3, 4) if x is None else x
        with pytest.raises(ConfigurationError) as refused:
            ss.from_module(
                module, prior=ss.SSIG(), likelihood=ss.CategoricalLikelihood(2), example=x
            )
        return str(refused.value)

    def test_a_branch_on_values(self):
        def forward(self, x):
            return self.last(x) if x.sum() > 0 else -self.last(x)

        assert "Odd: its forward cannot be traced" in self.refusal(forward, last=nn.Linear(4, 2))

    def test_a_second_input(self):
        class Two(nn.Linear):
            def forward(self, x, y):
                return super().forward(x + y)

        with pytest.raises(ConfigurationError, match="must take one tensor; others need defaults"):
            ss.from_module(
                Two(4, 2),
                prior=ss.SSIG(),
                likelihood=ss.CategoricalLikelihood(2),
                example=torch.randn(2, 4),
            )

    def test_the_weight_of_another_layer(self):
        """A function on the weight of one layer and the bias of another is not that layer."""

        def forward(self, x):
            h = nn.functional.linear(x, self.first.weight, self.other.bias)
            return self.last(h)

        layers = {"first": nn.Linear(4, 4), "other": nn.Linear(4, 4), "last": nn.Linear(4, 2)}
        assert "the network differs from the module" in self.refusal(forward, **layers)

    def test_a_module_without_translation(self):
        def forward(self, x):
            return self.last(self.act(x))

        match = "act (module act): PReLU has no translation"
        assert match in self.refusal(forward, last=nn.Linear(4, 2), act=nn.PReLU())

    def test_a_function_without_translation(self):
        def forward(self, x):
            return self.last(torch.cumsum(x, 1))

        match = "cumsum: the function cumsum has no translation"
        assert match in self.refusal(forward, last=nn.Linear(4, 2))

    def test_a_table_that_the_input_chooses_from(self):
        def forward(self, x):
            return self.last(self.tables[0][x])

        match = "getitem: what the input chooses from a fixed tensor"
        tables = nn.ParameterList([torch.randn(20, 4)])
        words = torch.randint(20, (3, 1))
        assert match in self.refusal(forward, words, tables=tables, last=nn.Linear(4, 2))

    def test_attention_under_a_mask(self):
        parts = {
            "attention": nn.MultiheadAttention(4, 2, batch_first=True),
            "last": nn.Linear(4, 2),
        }
        mask = torch.ones(5, 5, dtype=torch.bool).tril().logical_not()

        def masked(self, x):
            h, _ = self.attention(x, x, x, attn_mask=mask)
            return self.last(h.mean(1))

        told = self.refusal(masked, torch.randn(3, 5, 4), **parts)
        assert re.search("attention .* without masks", told)

    def test_a_layer_used_twice(self):
        def forward(self, x):
            return self.last(self.same(torch.relu(self.same(x))))

        told = self.refusal(forward, same=nn.Linear(4, 4), last=nn.Linear(4, 2))
        assert re.search("same .* more than once", told)

    def test_a_tensor_changed_behind_another_name(self):
        def forward(self, x):
            h = self.first(x)
            other = h
            h += 1.0
            return self.last(h + other)

        match = "differs from the module"
        assert match in self.refusal(forward, first=nn.Linear(4, 3), last=nn.Linear(3, 2))

    def test_rows_that_read_each_other(self):
        def forward(self, x):
            return self.last(x - x.mean(0, keepdim=True))

        match = "mean: its first dimension must be that of the rows"
        assert match in self.refusal(forward, last=nn.Linear(4, 2))

    def test_outputs_in_several_dimensions(self):
        def forward(self, x):
            return self.last(x)

        x = torch.randn(3, 5, 4)
        assert "the output must be [N, K]" in self.refusal(forward, x, last=nn.Linear(4, 2))

    def test_an_example_of_another_shape(self):
        def forward(self, x):
            return self.last(x)

        assert "cannot take the example" in self.refusal(
            forward, torch.randn(3, 5), last=nn.Linear(4, 2)
        )

    def test_another_number_of_outputs(self):
        def forward(self, x):
            return self.last(x)

        assert "takes 2 outputs; the module gives 3" in self.refusal(forward, last=nn.Linear(4, 3))
