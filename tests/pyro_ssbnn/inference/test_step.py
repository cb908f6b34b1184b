"""Steps under Pyro's handlers and as a traced graph: the same numbers bit by bit, the same random draws."""

import pytest
import torch

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    AnalyticELBO,
    GaussianLikelihood,
    StructuredGuide,
    TrainingOptions,
    fit,
)
from pyro_ssbnn.errors import ConfigurationError, TrainingInterrupted
from pyro_ssbnn.inference import engine
from pyro_ssbnn.inference.costs import best_kind, repays
from pyro_ssbnn.inference.step import EagerStep, TracedStep
from pyro_ssbnn.isolation import isolated

PRIORS = [SSIG(inclusion=0.3), SSGL(inclusion=0.3), SSGHS(inclusion=0.3), SSGHS(cap=None)]


def data(num_data=24):
    x = torch.randn(num_data, 4)
    return x, x[:, 0] + 0.1 * torch.randn(num_data)


def network(prior=None, **options):
    prior = prior or SSIG(inclusion=0.3)
    return MLP(
        4, [6, 5], prior=prior, likelihood=GaussianLikelihood(), input_inclusion=0.3, **options
    )


def step_of(kind, model, guide, particles=2, local=True):
    elbo = AnalyticELBO(particles, local_reparameterization=local)
    return kind(model, guide, elbo, 100)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda p: f"{p.name}-{getattr(p, 'cap', '')}")
@pytest.mark.parametrize("local", [True, False])
def test_a_traced_step_is_the_eager_one_bit_by_bit(prior, local, adds_alike):
    x, y = data()
    model = network(prior)
    guide = StructuredGuide(model)
    found = []
    for kind in (EagerStep, TracedStep):
        step = step_of(kind, model, guide, local=local)
        with isolated(3, x, grad=True):
            terms = [step(x, y, torch.tensor(0.7)) for _ in range(3)]
        found.append((step.observed, step.latent, terms, [p.grad for p in guide.parameters()]))
        guide.zero_grad()
    (observed, latent, terms, gradients), traced = found
    assert (observed, latent) == traced[:2]
    for one, other in zip(terms, traced[2], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(gradients, traced[3], strict=True):
        rounding = 0.0 if adds_alike else 1e-5
        torch.testing.assert_close(one, other, rtol=10 * rounding, atol=rounding)


def test_tracing_draws_no_random_number_and_changes_no_parameter():
    x, y = data()
    model = network()
    guide = StructuredGuide(model)
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    with isolated(0, x, grad=True):
        state = torch.get_rng_state()
        step_of(TracedStep, model, guide).prepare(x, y)
        assert torch.equal(torch.get_rng_state(), state)
    for name, value in guide.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_changed_attribute_makes_a_trace_stale():
    x, y = data()
    model = network()
    guide = StructuredGuide(model)
    step = step_of(TracedStep, model, guide)
    with isolated(0, x, grad=True):
        step.prepare(x, y)
    assert not step.is_stale()
    guide.hard = False
    assert step.is_stale()


@pytest.mark.usefixtures("needs_same_sums")
def test_fits_are_the_same_whichever_of_both_steps_runs():
    x, y = data(64)
    chosen = {"epochs": 60, "gate_rate": 0.03}
    eager, traced = (
        fit(network(), x, y, TrainingOptions(**chosen, compile=kind), progress=False)
        for kind in (False, "trace")
    )
    for name, value in eager.guide.state_dict().items():
        assert torch.equal(value, traced.guide.state_dict()[name]), name
    assert eager.history.elbo == pytest.approx(traced.history.elbo, rel=0)


def test_a_network_defined_anew_is_computed_anew():
    """As when a notebook's cell is run again: same names, same shapes, another formula."""
    x, y = data()

    def redefined(factor):
        class Mine(MLP):
            def network(self, x):
                return factor * super().network(x)

        return Mine(4, [6], prior=SSIG(), likelihood=GaussianLikelihood())

    found = []
    for factor in (1.0, 1000.0):
        model = redefined(factor)
        torch.manual_seed(0)
        step = step_of(TracedStep, model, StructuredGuide(model))
        with isolated(0, x, grad=True):
            found.append(float(step(x, y, torch.tensor(1.0))[0]))
    assert found[1] < 100 * found[0] < 0


def first_epoch(model, x, y, options):
    """Epochs done of a run that is stopped after one; the step is chosen by the length of the whole."""

    def stop(epoch, result):
        raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted) as stopped:
        fit(model, x, y, options, progress=False, callback=stop)
    return len(stopped.value.result.history)


def test_without_a_compiler_the_step_is_traced_and_compilation_refused(monkeypatch):
    x, y = data(64)
    monkeypatch.setattr(engine, "has_compiler", lambda device: False)
    monkeypatch.setattr(
        "pyro_ssbnn.inference.step.compiled", lambda *given: (_ for _ in ()).throw(OSError("none"))
    )
    chosen = {"epochs": 400, "batch_size": 8}
    assert first_epoch(network(), x, y, TrainingOptions(**chosen)) == 1
    with pytest.raises(ConfigurationError, match="compiler failed"):
        fit(network(), x, y, TrainingOptions(**chosen, compile=True), progress=False)


def test_a_step_that_cannot_be_traced_runs_under_the_handlers():
    class Branching(MLP):
        def network(self, x):
            f = super().network(x)
            return f if float(f.sum()) > -1e30 else -f

    x, y = data(64)
    model = Branching(4, [6], prior=SSIG(), likelihood=GaussianLikelihood())
    chosen = {"epochs": 300, "batch_size": 32}
    assert first_epoch(model, x, y, TrainingOptions(**chosen)) == 1
    with pytest.raises(ConfigurationError, match="cannot be traced"):
        fit(model, x, y, TrainingOptions(**chosen, compile="trace"), progress=False)


def test_the_kind_of_step_follows_from_counts():
    description = network().description
    kinds = ["eager", "trace", "compile"]
    chosen = [best_kind(kinds, description, 128, steps) for steps in (10, 1_000, 100_000)]
    assert chosen == ["eager", "trace", "compile"]
    assert repays(("eager", description), ("trace", description), 128, 5_000)
    assert not repays(("trace", description), ("trace", description), 128, 5_000)


def test_another_word_is_no_kind_of_step():
    with pytest.raises(ConfigurationError, match="'auto', 'trace', True"):
        TrainingOptions(compile="fast")
