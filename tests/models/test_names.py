"""Names of layers: refused where they would take the place of something else."""

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError


class OneLayer(ss.ImageNetwork):
    """A dense layer of any name."""

    def __init__(self, *names):
        super().__init__((1, 2, 2), ss.SSGHS(), ss.GaussianLikelihood(), None, "relu")
        layout = ss.Layout("OneLayer", self.image_shape)
        for name in names:
            layout.dense(name, 3)
        self._lay_out(layout)
        self.names = names

    @staticmethod
    def wire(net, x):
        for name in net.shape["names"]:
            x = net.phi(net.layer(name, x))
        return net.layer("output", x)

    def _shape_config(self):
        return {"image_shape": list(self.image_shape), "names": list(self.names)}


@pytest.mark.parametrize(
    "name",
    [
        "noise",
        "global",
        "output_global",
        "phi",
        "prior",
        "input",
        "data",
        "obs",
        "draws",
        "forward",
    ],
)
def test_taken_names_are_refused(name):
    with pytest.raises(ConfigurationError, match=f"OneLayer: .*'{name}'"):
        OneLayer(name)


@pytest.mark.parametrize("name", ["a.b", "1st", "", "two words", "lambda"])
def test_names_that_are_none_in_python_are_refused(name):
    with pytest.raises(ConfigurationError, match=f"Python names.* got '{name}'"):
        OneLayer(name)


@pytest.mark.parametrize("names", [("first", "first"), ("output",)])
def test_one_name_for_two_is_refused(names):
    with pytest.raises(ConfigurationError, match=f"'{names[0]}' is the name of two layers"):
        OneLayer(*names)


@pytest.mark.parametrize("name", ["inclusion", "hard", "temperature", "close", "coupled"])
def test_a_guides_attributes_are_refused_by_the_guide(name):
    model = OneLayer(name)
    with pytest.raises(ConfigurationError, match=f"Guide: a layer cannot be called '{name}'"):
        ss.CoupledGuide(model)


def test_other_names_work_through_a_removal():
    x = torch.randn(20, 4)
    model = OneLayer("scales", "weight", "gate", "scale_a", "network_2")
    options = ss.TrainingOptions(epochs=20, gate_rate=2.0, kl_warmup=0.0, remove_below=0.5)
    with pytest.warns(ss.errors.CollapseWarning):
        result = ss.fit(model, x, x[:, 0], options, progress=False)
    assert result.history.removed
    assert model.description["gate"].size == 3


def test_a_group_of_another_name_is_told_with_those_there_are():
    net = ss.MLP(2, [3], prior=ss.SSIG(), likelihood=ss.GaussianLikelihood())
    assert net.description["hidden1"].size == 3
    with pytest.raises(
        ConfigurationError, match=r"no group is called 'hidden2'; .*'hidden1', 'output'"
    ):
        net.description["hidden2"]


def test_a_group_without_gates_has_no_prior_of_them():
    output = ss.MLP(2, [3], prior=ss.SSIG(), likelihood=ss.GaussianLikelihood()).description[
        "output"
    ]
    assert (output.prior_inclusion == 1).all()
    with pytest.raises(ConfigurationError, match="'output' has no gates, hence no prior odds"):
        output.prior_logit  # noqa: B018
    with pytest.raises(ConfigurationError, match="'output' has no gates, hence no prior of them"):
        output.prior_gates(torch.ones(1))
