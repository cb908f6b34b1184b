"""What does not belong together is refused, everywhere in public, with the first difference."""

import copy

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError, SelectionError
from pyro_ssbnn.structure import first_difference, require_match

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = X[:, 0]
SHORT = ss.TrainingOptions(epochs=2, batch_size=20, kl_warmup=0.0)


def net(width=4, **options):
    return ss.MLP(
        3,
        [width],
        **{"prior": ss.SSIG(inclusion=0.5), "likelihood": ss.GaussianLikelihood(), **options},
    )


@pytest.fixture(scope="module")
def fits():
    """Fits of four and of seven nodes, every other choice the same."""
    return [ss.fit(net(width), X, Y, SHORT, progress=False) for width in (4, 7)]


OTHERS = {
    "hidden1.size is 4 in the network and 7 in the guide": net(7),
    "the list of layers is": ss.MLP(
        3, [4, 4], prior=ss.SSIG(inclusion=0.5), likelihood=ss.GaussianLikelihood()
    ),
    "the number of predictors is 3": ss.MLP(
        2, [4], prior=ss.SSIG(inclusion=0.5), likelihood=ss.GaussianLikelihood()
    ),
    r"input.inclusion is None in the network and 0.2": net(input_inclusion=0.2),
    "hidden1.inclusion is 0.5 in the network and 0.4": net(prior=ss.SSIG(inclusion=0.4)),
    r"hidden1.prior is SSIG\(scale=1.0.*SSIG\(scale=2.0": net(prior=ss.SSIG(2.0, inclusion=0.5)),
    r"hidden1.prior is SSIG\(.*SSGHS\(": net(prior=ss.SSGHS(inclusion=0.5)),
    r"output.prior is Gaussian\(scale=1.0": net(output_prior=ss.Gaussian(3.0)),
    r"the likelihood is GaussianLikelihood\(.*scale=None.*PoissonLikelihood": net(
        likelihood=ss.PoissonLikelihood()
    ),
    "the activation is 'silu' in the network and 'tanh' in the guide": net(activation="tanh"),
    "the name of predictor 2 is 'x3' in the network and 'age'": net(
        input_names=["x1", "x2", "age"]
    ),
}


@pytest.mark.parametrize("difference", OTHERS)
def test_the_first_difference_is_named(difference):
    with pytest.raises(ConfigurationError, match=rf"here: .*another network: {difference}"):
        require_match("here", net(), ss.StructuredGuide(OTHERS[difference]))


def test_equal_networks_agree_and_so_do_copies():
    for guide in (ss.StructuredGuide(net()), copy.deepcopy(ss.CoupledGuide(net()))):
        require_match("here", net(), guide)
        assert first_difference(net(), guide, ("a", "b")) is None


def test_maps_sums_and_kernels_are_compared():
    def resnet(widths, activation="relu"):
        return ss.ResNet(
            (1, 8, 8), 8, widths=widths, prior=ss.SSIG(), likelihood=ss.CategoricalLikelihood(2)
        )

    assert first_difference(resnet((2, 3, 4)), resnet((2, 3, 4)), ("a", "b")) is None
    said = first_difference(resnet((2, 3, 4)), resnet((2, 3, 5)), ("a", "b"))
    assert said == "stage3_block1_conv1.size is 4 in a and 5 in b"

    def lenet(kernel_size, padding):
        options = {"prior": ss.SSIG(), "likelihood": ss.CategoricalLikelihood(2)}
        return ss.LeNet((1, 8, 8), (2,), (3,), kernel_size=kernel_size, padding=padding, **options)

    assert "conv1.fan_in is 9 in a and 25 in b" in first_difference(
        lenet(3, 1), lenet(5, 2), ("a", "b")
    )


def test_a_class_defined_again_is_told():
    def prior():
        class Mine(ss.SSIG):
            pass

        return Mine(inclusion=0.5)

    with pytest.raises(
        ConfigurationError, match=r"hidden1.prior is .* two definitions of one class"
    ):
        require_match("here", net(prior=prior()), ss.StructuredGuide(net(prior=prior())))


CALLS = {
    "fit": lambda f, g: ss.fit(f.model, X, Y, SHORT, guide=g.guide, progress=False),
    "predict": lambda f, g: ss.predict(f.model, g.guide, X),
    "draw_posterior": lambda f, g: ss.draw_posterior(f.model, g.guide, 2),
    "prune": lambda f, g: ss.prune(f.model, g.guide),
    "to_arviz": lambda f, g: ss.to_arviz(f.model, g.guide),
    "dense_and_pruned": lambda f, g: ss.dense_and_pruned(f.model, g.guide),
    "pruning_latency": lambda f, g: ss.pruning_latency(f.model, g.guide),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_guide_of_another_network_is_refused(call, fits):
    with pytest.raises(
        ConfigurationError, match=r"hidden1.size is 4 in the network and 7 in the guide"
    ):
        CALLS[call](*fits)


def mixed(fits, name):
    """A fit with one part of another."""
    result = copy.copy(fits[0])
    setattr(result, name, getattr(fits[1], name))
    return result


WHOLE = {
    "fit": lambda f, path: ss.fit(f.model, X, Y, SHORT, resume=f, progress=False),
    "fine_tune": lambda f, path: ss.fine_tune(f, X, Y, progress=False),
    "diagnose": lambda f, path: ss.diagnose(f, X, Y),
    "save_fit": lambda f, path: ss.save_fit(f, path / "fit.safetensors"),
}


@pytest.mark.parametrize("part", ["guide", "history"])
@pytest.mark.parametrize("call", WHOLE)
def test_a_fit_of_parts_of_several_is_refused(call, part, fits, tmp_path):
    with pytest.raises(ConfigurationError, match=rf"{call}: the {part} is that of another network"):
        WHOLE[call](mixed(fits, part), tmp_path)


SELECTIONS = {
    "prune": lambda f, s: ss.prune(f.model, f.guide, s),
    "fine_tune": lambda f, s: ss.fine_tune(f, X, Y, selection=s, progress=False),
    "inclusion_summary": lambda f, s: ss.inclusion_summary(f.guide, s),
    "layer_summary": lambda f, s: ss.layer_summary(f.guide, s),
}


@pytest.mark.parametrize("call", SELECTIONS)
def test_a_selection_of_another_network_is_refused(call, fits):
    selection = ss.select(fits[1].guide.inclusion())
    with pytest.raises(SelectionError, match=rf"{call}: the selection is one of .*7.* has .*4"):
        SELECTIONS[call](fits[0], selection)


def test_a_history_or_draws_of_another_network_are_refused(fits):
    with pytest.raises(ConfigurationError, match="history is that of another network"):
        ss.inclusion_summary(fits[0].guide, history=fits[1].history)
    gone = ss.History(removed=[ss.Removal("hidden1", 5, 1, 0.0)])
    with pytest.raises(ConfigurationError, match="history is that of another network"):
        ss.inclusion_summary(fits[0].guide, history=gone)
    draws = ss.draw_posterior(fits[1].model, fits[1].guide, 2)
    with pytest.raises(ConfigurationError, match="draws are of another network: it has 4 gates"):
        ss.to_arviz(fits[0].model, fits[0].guide, draws)


def test_restarts_of_different_networks_are_refused(fits):
    with pytest.raises(
        ConfigurationError, match=r"hidden1.size is 4 in the first fit and 7 in fit 2"
    ):
        ss.diagnose(fits, X, Y)
    with pytest.raises(
        ConfigurationError, match=r"hidden1.size is 4 in the first and 7 in number 2"
    ):
        ss.plots.plot_restart_inclusion([f.guide for f in fits])
