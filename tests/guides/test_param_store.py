"""SVI scripts: a guide's parameters under their names in Pyro's parameter store."""

import re
from copy import deepcopy
from pathlib import Path

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule

from pyro_ssbnn import MLP, SSGHS, CoupledGuide, GaussianLikelihood, StructuredGuide
from pyro_ssbnn.errors import ConfigurationError

X = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
FOREIGN = "holds other tensors under"


def network(width=4):
    return MLP(3, [width], prior=SSGHS(inclusion=0.5), likelihood=GaussianLikelihood())


def script(net, guide, steps=2):
    """A plain script; returns the names of the parameters that it moved."""
    before = {name: value.detach().clone() for name, value in guide.named_parameters()}
    svi = SVI(net, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    for _ in range(steps):
        svi.step(X, X[:, 0])
    return {n for n, value in guide.named_parameters() if not torch.equal(value, before[n])}


@pytest.fixture
def local_params():
    with pyro.settings.context(module_local_params=True):
        yield


def names(guide):
    return {name for name, _ in guide.named_parameters()}


@pytest.mark.parametrize("kind", [StructuredGuide, CoupledGuide])
@pytest.mark.parametrize("width", [4, 5], ids=["same-shapes", "other-shapes"])
def test_a_script_run_twice_says_what_to_do(kind, width):
    first = kind(network())
    assert script(network(), first) == names(first)
    net = network(width)
    second = kind(net)
    with pytest.raises(ConfigurationError, match=rf"{FOREIGN}.*clear_param_store"):
        script(net, second)
    pyro.clear_param_store()
    assert script(net, second) == names(second)


def test_two_guides_at_once_train_in_stores_of_their_own():
    guides = [StructuredGuide(network()) for _ in range(2)]
    for guide in guides:
        with pyro.get_param_store().scope():
            assert script(network(), guide) == names(guide)


def test_two_guides_at_once_train_with_local_parameters(local_params):
    for _ in range(2):
        net = network()
        guide = StructuredGuide(net)
        assert script(net, guide) == names(guide)
    assert len(pyro.get_param_store()) == 0


def test_an_elbo_module_trains_with_local_parameters_and_torch_optimizers(local_params):
    net = network()
    guide = StructuredGuide(net)
    before = deepcopy(guide.state_dict())
    loss = Trace_ELBO()(net, guide)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    loss(X, X[:, 0]).backward()
    optimizer.step()
    assert all(not torch.equal(guide.state_dict()[name], before[name]) for name in names(guide))


def test_values_of_a_saved_store_are_refused_or_taken_up_by_name(tmp_path):
    net = network()
    trained = StructuredGuide(net)
    script(net, trained)
    store = pyro.get_param_store()
    store.save(tmp_path / "store.pt")
    store.clear()
    store.load(tmp_path / "store.pt")
    guide = StructuredGuide(net)
    with pytest.raises(ConfigurationError, match=rf"{FOREIGN}.*load_state_dict"):
        script(net, guide)
    guide.load_state_dict(dict(store.named_parameters()), strict=False)  # as the message says
    store.clear()
    for name, value in trained.named_parameters():
        assert torch.equal(dict(guide.named_parameters())[name], value)
    assert script(net, guide) == names(guide)


def test_what_happens_to_a_trained_guide_in_place_keeps_it_in_the_store():
    net = network()
    guide = StructuredGuide(net)
    script(net, guide)
    guide.load_state_dict(StructuredGuide(net).state_dict())
    assert script(net, guide) == names(guide)
    guide.to(torch.float64)
    svi = SVI(net, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    before = guide.noise.variance.loc.item()
    svi.step(X.double(), X[:, 0].double())
    assert guide.noise.variance.loc.item() != before


def test_a_copy_is_another_guide():
    net = network()
    guide = StructuredGuide(net)
    script(net, guide)
    with pytest.raises(ConfigurationError, match=FOREIGN):
        script(net, deepcopy(guide))


def test_draws_need_no_names():
    """Each guide samples from its own parameters, whatever the store holds."""
    net = network()
    guide, other = StructuredGuide(net), StructuredGuide(net)
    script(net, guide)
    other.output.weight.loc.data.fill_(3.0)
    other.output.weight.log_scale.data.fill_(-20.0)
    with torch.no_grad():
        draw = pyro.poutine.trace(other).get_trace().nodes["output.weight"]["value"]
    torch.testing.assert_close(draw, torch.full_like(draw, 3.0))


def test_names_are_those_inside_a_users_module():
    class Pair(PyroModule):
        def __init__(self, net):
            super().__init__()
            self.inner = StructuredGuide(net)

        def forward(self, *args):
            return self.inner(*args)

    net = network()
    guide = Pair(net)
    assert script(net, guide) == names(guide)
    with pytest.raises(ConfigurationError, match=r"inner\.global"):
        script(net, Pair(net))


def test_parameters_of_the_same_name_in_a_users_model_are_refused():
    pyro.param("output.weight.loc", torch.zeros(1))
    with pytest.raises(ConfigurationError, match=r"1 of this guide's 15 names, such as 'output"):
        StructuredGuide(network())(X)


def test_the_documented_script_runs(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "gotchas.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(code, scope)
    saved = torch.load(tmp_path / "guide.pt", weights_only=True)
    assert saved.keys() == scope["guide"].state_dict().keys()


def test_a_minibatch_stands_for_the_whole_data(check_mean):
    """With ``num_data`` the minibatches' mean loss is the loss of all rows; without, the KL counts once for each."""
    net = network()
    guide = StructuredGuide(net, initial_inclusion=1 - 1e-6, initial_scale=1e-6)
    y = X[:, 0]

    halves = [slice(0, 10), slice(10, 20)] * 50

    def losses(rows, **given):
        with torch.no_grad():
            return torch.tensor([Trace_ELBO().loss(net, guide, X[r], y[r], **given) for r in rows])

    whole = losses([slice(0, 20)] * 50)
    scaled, plain = losses(halves, num_data=20), losses(halves)
    check_mean(scaled.reshape(-1, 2).mean(1) - whole, torch.tensor(0.0))
    assert 2 * plain.mean() - scaled.mean() > 10 * whole.std()
