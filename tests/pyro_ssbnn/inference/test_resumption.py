"""A resumed run follows the options it is given, or refuses them."""

import copy
import warnings
from dataclasses import fields, replace

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CollapseWarning, ConfigurationError

X = torch.randn(48, 3, generator=torch.Generator().manual_seed(0))
Y = X[:, 0]
HALF = ss.TrainingOptions(
    epochs=3, batch_size=16, kl_warmup=0.0, decay_after=1.0, remove_below=None, gate_rate=0.02
)


def net(width=4, **options):
    options = {"prior": ss.SSIG(inclusion=0.5), "likelihood": ss.GaussianLikelihood(), **options}
    return ss.MLP(3, [width], **options)


def fitted(options=HALF):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return ss.fit(net(), X, Y, options, progress=False)


def resumed(half, *, epochs=5, **changes):
    options = replace(half.options, epochs=epochs, **changes)
    half = copy.deepcopy(half)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return ss.fit(half.model, X, Y, options, resume=half, progress=False)


REFUSED = {
    "seed": 7,
    "dtype": "float64",
    "optimizer": "sgd",
    "batch_size": 12,
    "hard_gates": False,
    "initial_inclusion": 0.5,
}
CHANGES = {
    "mean_rate": 0.5,
    "rate": 0.5,
    "scale_rate": 0.5,
    "latent_rate": 0.5,
    "gate_rate": 0.5,
    "kl_warmup": 1.0,
    "decay_after": 0.0,
    "milestones": (0.5,),
    "clip_norm": 1e-3,
    "num_particles": 3,
    "local_reparameterization": False,
    "temperature": (2.0, 2.0),
    "precision": "bf16",
}
# They act only together with others, on other machines, or are tested elsewhere.
OTHERS = {
    "cuda_graphs",
    "epochs",
    "gate_hold",
    "gate_method",
    "screen",
    "momentum",
    "milestone_factor",
    "patience",
    "min_delta",
    "remove_below",
    "remove_after",
    "compile",
    "device",
}


def test_every_option_is_decided():
    assert REFUSED.keys() | CHANGES.keys() | OTHERS == {f.name for f in fields(ss.TrainingOptions)}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_be_used_is_refused(name):
    half = fitted(replace(HALF, epochs=1))
    with pytest.raises(
        ConfigurationError, match=rf"cannot change {name}={REFUSED[name]!r} \(it used"
    ):
        resumed(half, **{name: REFUSED[name]})


def test_the_same_batch_size_in_other_words_is_accepted():
    half = fitted(replace(HALF, batch_size=None))
    assert len(resumed(half, batch_size=half.options.batch_rows(48)).history) == 5


@pytest.fixture(scope="module")
def half():
    return fitted()


@pytest.mark.parametrize("name", CHANGES)
def test_what_may_change_acts(name, half):
    plain, changed = resumed(half), resumed(half, **{name: CHANGES[name]})
    assert getattr(changed.options, name) == CHANGES[name]
    assert changed.history.kl[:3] == plain.history.kl[:3]
    same = [
        torch.equal(value, changed.guide.state_dict()[key])
        for key, value in plain.guide.state_dict().items()
    ]
    assert not all(same)


def test_a_new_rate_is_that_of_a_run_that_always_had_it():
    """Gradient descent without noise to remember: a rate of nearly zero stops the means."""
    half = fitted()
    still = resumed(half, mean_rate=1e-12)
    torch.testing.assert_close(
        still.guide.hidden1.weight.loc, half.guide.hidden1.weight.loc, rtol=0, atol=1e-9
    )
    assert not torch.equal(
        still.guide.hidden1.weight.log_scale, half.guide.hidden1.weight.log_scale
    )
    rates = {g["kind"]: g["base_rate"] for g in still.optimizer_state["param_groups"]}
    assert rates["means.output"] == pytest.approx(1e-12 / 2)  # fan-in 4


def test_a_new_momentum_is_used():
    half = fitted(replace(HALF, optimizer="sgd", mean_rate=0.01))
    group = resumed(half, momentum=0.1).optimizer_state["param_groups"][0]
    assert group["momentum"] == 0.1


def test_removal_may_begin():
    half = fitted(replace(HALF, gate_rate=2.0))
    assert not half.history.removed
    assert resumed(half, epochs=7, remove_below=0.5, remove_after=1).history.removed


def test_held_gates_stay_held():
    tuned = ss.fine_tune(
        fitted(), X, Y, selection=ss.select(fitted().guide.inclusion(), nodes=3), progress=False
    )
    again = resumed(tuned, gate_rate=0.9)
    for name, value in tuned.guide.inclusion().items():
        assert torch.equal(value, again.guide.inclusion()[name])


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (net(5), "hidden1.size is 5 in the network and 4 in the run to resume"),
        (net(prior=ss.SSGHS(inclusion=0.5)), "hidden1.prior is SSGHS"),
        (net(likelihood=ss.PoissonLikelihood()), "the likelihood is PoissonLikelihood"),
        (net(activation="tanh"), "the activation is 'tanh'"),
    ],
)
def test_another_network_is_refused(other, difference, half):
    with pytest.raises(
        ConfigurationError, match=f"run to resume is that of another network: {difference}"
    ):
        ss.fit(other, X, Y.abs().round(), HALF, resume=half, progress=False)


def test_other_rows_are_refused(half):
    with pytest.raises(ConfigurationError, match="was fitted to 48 rows; x has 40"):
        ss.fit(half.model, X[:40], Y[:40], half.options, resume=half, progress=False)
