"""Fine-tuning: fixed gates, a bound that counts them exactly, results that speak of the original network."""

import math
import warnings

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Gamma, InverseGamma, LogNormal
from torch.distributions import kl_divergence

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSIG,
    AnalyticELBO,
    CategoricalLikelihood,
    GaussianLikelihood,
    ResNet,
    Selection,
    StructuredGuide,
    TrainingOptions,
    fine_tune,
    fit,
    load_fit,
    prune,
    save_fit,
    select,
)
from pyro_ssbnn.analysis import inclusion_summary
from pyro_ssbnn.errors import CollapseWarning, SelectionError
from pyro_ssbnn.posterior.draws import site_values, trace_draws
from pyro_ssbnn.posterior.prediction import predict, predict_compact

INCLUSION = {"input": 0.3, "hidden1": 0.2}
TUNING = TrainingOptions(epochs=15, batch_size=50, mean_rate=0.03, dtype="float64")


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=generator)
    return x, (2 * x[:, 0]).sin() + x[:, 1] + 0.1 * torch.randn(200, generator=generator)


@pytest.fixture(scope="module")
def fitted():
    """A short fit: some nodes closed during training, some not."""
    model = MLP(
        4,
        [12],
        prior=SSGHS(inclusion=INCLUSION["hidden1"]),
        likelihood=GaussianLikelihood(),
        input_inclusion=INCLUSION["input"],
    )
    options = TrainingOptions(
        epochs=60, batch_size=50, gate_rate=0.05, kl_warmup=0.3, dtype="float64"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return fit(model, *data(), options, progress=False)


@pytest.fixture(scope="module")
def selection(fitted):
    """Five nodes and two predictors, whatever the fit found."""
    return select(fitted.guide.inclusion(), nodes={"input": 2, "hidden1": 5})


@pytest.fixture(scope="module")
def tuned(fitted, selection):
    return fine_tune(fitted, *data(), TUNING, selection=selection, progress=False)


def kl_terms(result):
    x, y = (v.double() for v in data())
    with torch.no_grad():
        terms = AnalyticELBO().terms(result.model, result.guide, x, y)
    return {name: float(value) for name, value in terms.kl.items()}


def test_gates_are_fixed_at_the_selection(tuned, selection):
    for name, probabilities in tuned.guide.inclusion().items():
        expected = selection.mask(name).double()
        torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-16)
        series = np.stack(tuned.history.inclusion[name])
        assert (series == expected.numpy()).all()


def test_gates_cost_the_closed_form(tuned, selection):
    expected = sum(
        -len(kept) * math.log(INCLUSION[k])
        - (selection.sizes[k] - len(kept)) * math.log1p(-INCLUSION[k])
        for k, kept in selection.kept.items()
    )
    found = sum(v for k, v in kl_terms(tuned).items() if k.endswith(".gate"))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.fixture(scope="module")
def untouched(fitted, selection):
    """The first epoch of a fine-tuning that moves nothing."""
    still = TrainingOptions(
        epochs=1, batch_size=50, mean_rate=1e-15, scale_rate=1e-15, dtype="float64"
    )
    return fine_tune(fitted, *data(), still, selection=selection, progress=False)


def test_the_recorded_kl_is_the_whole_networks_but_for_the_scales_of_closed_nodes(
    untouched, selection
):
    closed = ~selection.mask("hidden1")
    scales = untouched.guide.hidden1.scales
    half, one = torch.tensor(0.5).double(), torch.tensor(1.0).double()
    lost = 0.0
    for site, prior in (
        (scales.scale_a, Gamma(half, one)),
        (scales.scale_b, InverseGamma(half, one)),
    ):
        q = LogNormal(site.loc.detach()[closed], site.log_scale.detach()[closed].exp())
        lost += float(kl_divergence(q, prior).sum())
    whole = sum(kl_terms(untouched).values())
    assert lost > 0
    assert untouched.history.kl[-1] == pytest.approx(whole - lost, rel=1e-9)


def test_the_fit_given_is_left_alone(fitted, tuned):
    assert tuned.guide is not fitted.guide
    assert len(fitted.history) == 60
    assert max(float(v.max()) for v in fitted.guide.inclusion().values()) < 1 - 1e-6


def test_unselected_members_do_not_change(fitted, tuned, selection):
    """Gates closed, weights at the prior, latents of their scales as the fit left them."""
    closed = ~selection.mask("hidden1")
    before, after = fitted.guide.state_dict(), tuned.guide.state_dict()
    for name in before:
        if name.startswith("hidden1.scales"):
            assert torch.equal(before[name][closed], after[name][closed]), name
            assert not torch.equal(before[name][~closed], after[name][~closed]), name
    assert (after["hidden1.weight.loc"][closed] == 0).all()
    assert (after["hidden1.weight.log_scale"][closed] == 0).all()
    dropped = ~selection.mask("input")
    assert (after["hidden1.weight.loc"][:, :-1][:, dropped] == 0).all()


def test_the_bound_rises(tuned, untouched):
    """Over that of the weights as they were, with the same gates."""
    assert tuned.history.elbo[-1] > untouched.history.elbo[-1] + 5


def test_pruned_equals_masked(tuned, selection):
    """The whole network with its (fixed) gates, averaged over draws of nothing: standard deviations are made tiny."""
    guide = StructuredGuide(tuned.model).double()
    guide.load_state_dict(tuned.guide.state_dict())
    with torch.no_grad():
        for name, parameter in guide.named_parameters():
            if name.endswith("log_scale"):
                parameter.fill_(-30.0)
    x = torch.randn(9, 4).double()
    masked = predict(tuned.model, guide, x, num_draws=2)
    pruned = prune(tuned.model, guide)
    assert pruned.selection.counts == selection.counts
    compact = predict_compact(
        pruned.network, tuned.model.likelihood, x, latents={"noise.variance": torch.ones(1)}
    )
    # The draws' spread, e^-30 of the weights, is gone; only mean weights are left on both sides.
    torch.testing.assert_close(masked.mean, compact.mean, rtol=1e-10, atol=1e-10)


def test_checkpoints_round_trip_and_fine_tuning_goes_on_bit_by_bit(
    fitted, tuned, selection, tmp_path
):
    class StopError(Exception):
        pass

    def stop(epoch, result):
        if epoch == 6:
            save_fit(result, tmp_path / "tuned.safetensors")
            raise StopError

    with pytest.raises(StopError):
        fine_tune(*(fitted, *data(), TUNING), selection=selection, progress=False, callback=stop)
    loaded = load_fit(tmp_path / "tuned.safetensors")
    assert loaded.history.removed == tuned.history.removed
    resumed = fit(loaded.model, *data(), loaded.options, resume=loaded, progress=False)
    assert resumed.history.kl == tuned.history.kl
    for name, value in tuned.guide.state_dict().items():
        assert torch.equal(value, resumed.guide.state_dict()[name]), name


def test_the_inclusion_table_says_what_was_left_out(fitted, tuned, selection):
    table = inclusion_summary(tuned.guide, history=tuned.history)
    assert len(table) == 16
    gone = {(r.group, r.node): r for r in tuned.history.removed}
    assert len(gone) == 16 - sum(selection.counts.values())
    before = fitted.guide.inclusion()
    for (group, node), removal in gone.items():
        assert removal.epoch == 0
        assert removal.inclusion == float(before[group][node])


def test_median_probability_model_by_default_without_warmup(fitted):
    tuned = fine_tune(fitted, *data(), TrainingOptions(epochs=1, dtype="float64"), progress=False)
    assert tuned.options.kl_warmup == 0.0
    expected = select(fitted.guide.inclusion()).counts
    assert select(tuned.guide.inclusion()).counts == expected


def test_nodes_that_pass_on_a_constant_stay_in_the_network_with_closed_gates():
    """Under the sigmoid a closed node gives 1/2: it cannot leave, but its gate is fixed all the same."""
    x, y = data()
    model = MLP(
        4, [6], prior=SSIG(inclusion=0.2), likelihood=GaussianLikelihood(), activation="sigmoid"
    )
    short = TrainingOptions(epochs=3, batch_size=50, kl_warmup=0.0)
    start = fit(model, x, y, short, progress=False)
    chosen = select(start.guide.inclusion(), nodes=3)
    tuned = fine_tune(start, x, y, short, selection=chosen, progress=False)
    assert tuned.history.removed == []
    expected = chosen.mask("hidden1").float()
    torch.testing.assert_close(tuned.guide.inclusion()["hidden1"], expected, rtol=0, atol=1e-15)
    closed = ~chosen.mask("hidden1")
    before, after = start.guide.output.weight.loc, tuned.guide.output.weight.loc
    assert not torch.equal(before[:, :-1][:, closed], after[:, :-1][:, closed])


def test_a_block_whose_first_convolution_is_closed_becomes_its_shortcut():
    """Its one filter that stays in the live network has a closed gate; the pruned network has neither."""
    shape, generator = (3, 8, 8), torch.Generator().manual_seed(1)
    x = torch.randn(60, 192, generator=generator, dtype=torch.float64)
    y = (x[:, :64].sum(-1) > 0).long()
    torch.manual_seed(1)
    model = ResNet(
        depth=8,
        image_shape=shape,
        prior=SSIG(inclusion=0.3),
        likelihood=CategoricalLikelihood(2),
    )
    options = TrainingOptions(epochs=2, batch_size=30, dtype="float64", kl_warmup=0.0)
    result = fit(model, x, y, options, progress=False)
    kept = dict(select(result.guide.inclusion()).kept)
    kept["stage1_block1_conv1"] = torch.tensor([], dtype=torch.long)
    kept["stage2_block1_conv2"] = kept["stage2_block1_conv1"] = torch.tensor([], dtype=torch.long)
    sizes = {k: len(v) for k, v in result.guide.inclusion().items()}
    selection = Selection(kept, sizes, rule="by hand")
    tuned = fine_tune(result, x, y, options, selection=selection, progress=False)
    assert float(tuned.guide.inclusion()["stage1_block1_conv1"].max()) < 1e-15
    model, guide = tuned.model, tuned.guide
    network = prune(model, guide, num_draws=2, seed=0).network
    gates = {f"{k}.gate": selection.mask(k).double().expand(2, -1) for k in kept}
    torch.manual_seed(0)  # the draws of prune
    with torch.no_grad():
        values = site_values(trace_draws(poutine.condition(guide, data=gates), 2))
        with pyro.plate("draws", 2, dim=-2):
            masked = poutine.condition(model.network, data=values)(x)
        torch.testing.assert_close(network(x), masked, rtol=0, atol=1e-10)


def test_selections_that_do_not_fit_are_refused(fitted):
    inclusion = fitted.guide.inclusion()
    with pytest.raises(SelectionError, match="this network has"):
        fine_tune(fitted, *data(), TUNING, selection=select({"hidden1": inclusion["hidden1"]}))
    none = select({k: 0 * v for k, v in inclusion.items()})
    with pytest.raises(SelectionError, match="would keep no member"):
        fine_tune(fitted, *data(), TUNING, selection=none)
