"""Calls that take a fitted network change nothing: not the process, not the network, not the guide, come what may."""

import pyro
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import Adam

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSIG,
    AnalyticELBO,
    CategoricalLikelihood,
    CoupledGuide,
    GaussianLikelihood,
    ResNet,
    StructuredGuide,
    TrainingOptions,
    diagnose,
    draw_posterior,
    error_control_summary,
    fit,
    inclusion_summary,
    layer_summary,
    predict,
    prune,
    pruning_latency,
    select,
    slab_scale_quantiles,
    to_arviz,
)
from pyro_ssbnn.posterior.draws import MOST_BYTES

ROWS = 12


def perceptron(guide=StructuredGuide):
    model = MLP(
        4, [3], prior=SSGHS(inclusion=0.4), likelihood=GaussianLikelihood(), input_inclusion=0.5
    )
    return model, guide(model), torch.randn(ROWS, 4), torch.randn(ROWS)


def residual():
    likelihood = CategoricalLikelihood(3)
    model = ResNet((1, 6, 6), 8, prior=SSIG(inclusion=0.4), likelihood=likelihood, widths=[2, 2, 2])
    return model, StructuredGuide(model), torch.randn(ROWS, 36), torch.arange(ROWS) % 3


NETWORKS = {
    "perceptron": perceptron,
    "coupled": lambda: perceptron(CoupledGuide),
    "residual": residual,
}
CALLS = {
    "draw_posterior": lambda m, g, x, y: draw_posterior(m, g, 3, x=x, y=y, weights=True),
    "predict": lambda m, g, x, y: predict(m, g, x, y, num_draws=3),
    "prune": lambda m, g, x, y: prune(m, g, everything(g)),
    "prune to draws": lambda m, g, x, y: prune(m, g, everything(g), num_draws=3),
    "to_arviz": lambda m, g, x, y: to_arviz(m, g, x=x, y=y, num_draws=3, weights=True),
    "pruning_latency": lambda m, g, x, y: pruning_latency(
        m, g, everything(g), num_draws=2, batch_sizes=[2], repeats=1, warmup=1, threads=1
    ),
    "layer_summary": lambda m, g, x, y: layer_summary(g),
    "inclusion_summary": lambda m, g, x, y: inclusion_summary(g),
    "error_control_summary": lambda m, g, x, y: error_control_summary(g, 0.1),
    "slab_scale_quantiles": lambda m, g, x, y: slab_scale_quantiles(
        g, g.description.groups[0].name
    ),
}
REFUSED = {
    "num_draws must be at most": lambda m, g, x, y: draw_posterior(m, g, MOST_BYTES, x=x),
    "memory: one row": lambda m, g, x, y: predict(m, g, x, y, memory=1),
    "x has 48 missing": lambda m, g, x, y: predict(m, g, x.fill_(torch.nan)),
    "12 rows and y has 3": lambda m, g, x, y: to_arviz(m, g, x=x, y=y[:3]),
    "num_draws must be": lambda m, g, x, y: prune(m, g, num_draws=0),
}


def everything(guide):
    return select(guide.inclusion(), nodes={k: len(v) for k, v in guide.inclusion().items()})


@pytest.fixture
def caller(monkeypatch):
    """Someone in the middle of a program: with parameters in the store, and settings of their own."""
    model, guide, x, y = perceptron()
    SVI(model, guide, Adam({"lr": 0.01}), AnalyticELBO()).step(x, y)
    pyro.param("mine", torch.tensor(2.0), constraint=pyro.distributions.constraints.positive)
    torch.manual_seed(5)
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)


def state(model, guide, x, y):
    """All that must stay as it is, as values that compare."""
    store = pyro.get_param_store()
    return {
        "store": {name: (id(v), v.detach().tolist()) for name, v in store.named_parameters()},
        "mine": pyro.param("mine").item(),
        "random": torch.get_rng_state().tolist(),
        "settings": dict(pyro.settings.get()),
        "validation": torch.distributions.Distribution._validate_args,
        "process": (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()),
        "modes": [module.training for module in (*model.modules(), *guide.modules())],
        "hard": guide.hard,
        "model": {name: v.tolist() for name, v in model.state_dict().items()},
        "guide": {name: (id(v), v.tolist()) for name, v in guide.named_parameters()},
        "gradients": [p.requires_grad for p in guide.parameters()],
    }


@pytest.mark.usefixtures("caller")
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("call", CALLS)
def test_everything_is_as_before(network, call):
    model, guide, x, y = NETWORKS[network]()
    guide.hard = network == "coupled"  # soft gates are a mode of training
    next(iter(model.children())).train(False)  # one part set apart from the rest
    before, data = state(model, guide, x, y), (x.clone(), y.clone())
    CALLS[call](model, guide, x, y)
    after = state(model, guide, x, y)
    for name, value in before.items():
        assert after[name] == value, name
    assert torch.equal(x, data[0])
    assert torch.equal(y, data[1])


@pytest.mark.usefixtures("caller")
@pytest.mark.parametrize("words", REFUSED)
def test_refusals_leave_everything_as_before(words):
    model, guide, x, y = perceptron()
    guide.hard = False
    before = state(model, guide, x, y)
    with pytest.raises(ValueError, match=words):
        REFUSED[words](model, guide, x, y)
    after = state(model, guide, x, y)
    for name, value in before.items():
        assert after[name] == value, name


@pytest.mark.usefixtures("caller")
@pytest.mark.parametrize(
    "call", ["draw_posterior", "predict", "prune to draws", "to_arviz", "pruning_latency"]
)
def test_so_do_errors_in_the_middle(call, monkeypatch):
    model, guide, x, y = perceptron()
    guide.hard = False
    before = state(model, guide, x, y)

    def interrupted(*arguments, **options):
        torch.randn(3)
        pyro.param("theirs", torch.zeros(1))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(guide.output), "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            CALLS[call](model, guide, x, y)
    after = state(model, guide, x, y)
    for name, value in before.items():
        assert after[name] == value, name


@pytest.mark.usefixtures("caller")
def test_diagnosing_changes_neither_the_process_nor_the_fit():
    torch.manual_seed(5)
    model, _, x, y = perceptron()
    fitted = fit(model, x, y, TrainingOptions(epochs=2), progress=False)
    before = state(fitted.model, fitted.guide, x, y)
    diagnose(fitted, x, y, num_draws=100)
    after = state(fitted.model, fitted.guide, x, y)
    for name, value in before.items():
        assert after[name] == value, name
