"""On a GPU: the same mathematics as on the CPU. Run by ``make test-gpu``; skipped, with the reason, without one."""

import copy
import warnings

import pyro
import pytest
import torch
from pyro import poutine

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    AnalyticELBO,
    CategoricalLikelihood,
    GaussianLikelihood,
    ImageAugmentation,
    LeNet,
    ResNet,
    Selection,
    StructuredGuide,
    TrainingOptions,
    draw_posterior,
    evaluate_bound,
    fit,
    gate_evidence,
    load_compact,
    load_fit,
    predict,
    prune,
    save_compact,
    save_fit,
)
from pyro_ssbnn.inference.cuda_graph import Recording
from pyro_ssbnn.inference.run import Run
from pyro_ssbnn.inference.step import CompiledStep, EagerStep, TracedStep
from pyro_ssbnn.isolation import isolated, random_state, tf32
from pyro_ssbnn.rows.prefetching import sent_ahead

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
]
GPU = torch.device("cuda", 0)
CLASSES = CategoricalLikelihood(3)
IMAGE = (1, 16, 16)
PRIORS = [SSIG(inclusion=0.3), SSGL(inclusion=0.3), SSGHS(inclusion=0.3)]
NETWORKS = {
    "mlp": lambda: MLP(256, [12, 7], prior=PRIORS[2], likelihood=CLASSES, input_inclusion=0.5),
    "lenet": lambda: LeNet(IMAGE, prior=PRIORS[1], likelihood=CLASSES),
    "resnet": lambda: ResNet(IMAGE, 8, prior=PRIORS[2], likelihood=CLASSES).train(),
}


def images(rows=32):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 256, generator=generator)
    return x, torch.arange(rows) % 3


def regression(rows=150):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 5, generator=generator)
    return x, torch.sin(2 * x[:, 0]) + 0.1 * torch.randn(rows, generator=generator)


def net(**options):
    return MLP(
        5, [12], prior=SSGHS(inclusion=0.3), likelihood=GaussianLikelihood(), input_inclusion=0.3, **options
    )  # fmt: skip


def quiet_fit(*given, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit(*given, progress=False, **options)


def run(kind, model, guide, steps=3, particles=1, **options):
    """Terms and gradients of some steps, and the running statistics afterwards, all on the CPU."""
    x, y = (value.to(GPU) for value in images())
    guide.zero_grad()
    step = kind(model, guide, AnalyticELBO(particles), 100, **options)
    with isolated(3, x, grad=True):
        rows = []
        for _ in range(steps):
            rows += [
                step(x, y, torch.full((), 0.7, device=GPU)),
                *(p.grad for p in guide.parameters()),
            ]
            rows = [row.detach().cpu() for row in rows]
    return step, [*rows, *(v.cpu() for v in model.state_dict().values())]


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.name)
def test_densities_agree_with_those_on_the_cpu(prior):
    """The log-probabilities of one trace of the model, and the closed-form KLs, in double precision."""
    model = MLP(256, [12, 7], prior=prior, likelihood=CLASSES, input_inclusion=0.5).double()
    guide = StructuredGuide(model).double()
    x, y = images()
    found = {}
    with pyro.validation_enabled(False), isolated(0, x.double()):
        values = {
            name: node["value"]
            for name, node in poutine.trace(guide).get_trace(x.double()).iter_stochastic_nodes()
        }
    for device in ("cpu", GPU):
        here, its = copy.deepcopy(model).to(device), copy.deepcopy(guide).to(device)
        data = x.double().to(device), y.to(device)
        fixed = {name: value.to(device) for name, value in values.items()}
        with isolated(0, data[0]):
            held = poutine.condition(here, data=fixed)
            trace = poutine.trace(held).get_trace(*data)
            trace.compute_log_prob()
            kls = AnalyticELBO().terms(here, its, *data).kl
        scores = {
            n: node["log_prob_sum"].cpu()
            for n, node in trace.nodes.items()
            if "log_prob_sum" in node
        }
        closed = {
            n: v.cpu() for n, v in kls.items() if "scale" in n or "gate" in n or "global" in n
        }
        found[len(found)] = scores | {f"kl {name}": value for name, value in closed.items()}
    cpu, gpu = found.values()
    assert cpu.keys() == gpu.keys()
    for name in cpu:
        assert torch.allclose(cpu[name], gpu[name], rtol=1e-9, atol=1e-9), name


def test_the_same_seed_gives_the_same_draws_and_leaves_no_trace():
    x, y = regression()
    options = TrainingOptions(epochs=30, device="cuda")
    before = random_state(GPU)
    fits = [quiet_fit(net(), x, y, options) for _ in range(2)]
    after = random_state(GPU)
    assert all(torch.equal(before[name], after[name]) for name in before)
    for name, value in fits[0].guide.state_dict().items():
        assert torch.equal(value, fits[1].guide.state_dict()[name]), name
    draws = [draw_posterior(f.model, f.guide, 20, seed=2).latents for f in fits]
    for name in draws[0]:
        assert torch.equal(draws[0][name], draws[1][name])


def test_draws_have_the_moments_that_the_guide_says(check_mean):
    model = net()
    guide = StructuredGuide(model, initial_inclusion=0.3).to(GPU)
    draws = draw_posterior(model.to(GPU), guide, 4000, seed=0).latents
    inclusion = guide.inclusion()["hidden1"].cpu()
    check_mean(draws["hidden1.gate"].cpu().double(), inclusion.double())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rounded", [False, True])
def test_replayed_and_traced_steps_are_the_eager_one(name, rounded):
    """The same draws from the same generator, forwards, backwards, and what batch norms remember."""
    found = {}
    for way in ("eager", "traced", "replayed"):
        torch.manual_seed(0)
        model = NETWORKS[name]().to(GPU)
        guide = StructuredGuide(model).to(GPU)
        kind = (
            EagerStep
            if way == "eager"
            else type("Step", (TracedStep,), {"replays": way == "replayed"})
        )
        step, found[way] = run(kind, model, guide, rounded=rounded)
        assert (getattr(step, "_recording", None) is not None) == (way == "replayed")
    for one, other in zip(found["traced"], found["replayed"], strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)
    tolerance = 0.05 if rounded else 1e-3  # sums on a GPU have no fixed order
    for one, other in zip(found["eager"], found["traced"], strict=True):
        assert (one - other).norm() <= tolerance * one.norm() + 1e-5


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("replays", [True, False])
def test_a_compiled_step_is_the_traced_one_but_for_rounding(replays):
    found = []
    for kind in (TracedStep, CompiledStep):
        torch.manual_seed(0)
        model = NETWORKS["mlp"]().to(GPU)
        guide = StructuredGuide(model).to(GPU)
        step = type("Step", (kind,), {"replays": replays})
        found.append(run(step, model, guide)[1])
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() <= 1e-3 * one.norm() + 1e-5


def test_a_recording_goes_on_from_the_generator():
    total = torch.zeros(3, device=GPU)
    with isolated(4, total):
        recording = Recording(lambda: total.add_(torch.randn(3, device=GPU)), [total], GPU)
        recording.replay()
        recording.replay()
        replayed = total.clone()
    with isolated(4, total):
        drawn = torch.randn(3, device=GPU) + torch.randn(3, device=GPU)
    assert torch.allclose(replayed, drawn)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_replayed_fits_are_the_same_but_for_rounding(optimizer):
    x, y = images(64)
    chosen = {
        "epochs": 10,
        "batch_size": 16,
        "optimizer": optimizer,
        "compile": "trace",
        "device": "cuda",
    }
    chosen |= {"mean_rate": 0.01} if optimizer == "sgd" else {}
    fits = [
        quiet_fit(NETWORKS["lenet"](), x, y, TrainingOptions(**chosen, cuda_graphs=graphs))
        for graphs in (True, False)
    ]
    assert fits[0].history.elbo == pytest.approx(fits[1].history.elbo, rel=1e-2)


@pytest.mark.parametrize("precision", ["full", "tf32", "bf16"])
def test_an_epoch_never_waits_for_the_host(precision, monkeypatch):
    """Torch raises at whatever synchronises."""
    train = Run._train_record

    def strict(of_run, record):
        if record == 0:  # the optimizer's step is recorded in it
            return train(of_run, record)
        torch.cuda.set_sync_debug_mode("error")
        try:
            return train(of_run, record)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Run, "_train_record", strict)
    x, y = images(64)
    for compile in (False, "trace"):
        options = TrainingOptions(
            epochs=4,
            batch_size=16,
            clip_norm=1.0,
            compile=compile,
            device="cuda",
            precision=precision,
        )
        fitted = quiet_fit(
            NETWORKS["resnet"](), x, y, options, augment=ImageAugmentation(IMAGE, erase=0.5)
        )
        assert len(fitted.history) == 4


def test_fits_agree_in_distribution_with_those_on_the_cpu():
    x, y = regression()
    found = {"cpu": [], "cuda": []}
    for device, bounds in found.items():
        for seed in range(4):
            options = TrainingOptions(epochs=150, seed=seed, device=device, compile="trace")
            fitted = quiet_fit(net(), x, y, options)
            bounds.append(evaluate_bound(fitted.model, fitted.guide, x, y).elbo)
    cpu, gpu = (torch.tensor(bounds) for bounds in found.values())
    error = ((cpu.var() + gpu.var()) / 4).sqrt() + 1.0
    assert abs(cpu.mean() - gpu.mean()) < 5 * error, found


def test_bounds_evidence_and_predictions_agree_with_those_on_the_cpu():
    """Of one fit, moved: draws differ, what they estimate does not."""
    x, y = regression()
    fitted = quiet_fit(net(), x, y, TrainingOptions(epochs=100, device="cpu"))
    moved = copy.deepcopy(fitted.model).to(GPU), copy.deepcopy(fitted.guide).to(GPU)
    here, there = (evaluate_bound(*pair, x, y) for pair in ((fitted.model, fitted.guide), moved))
    assert abs(here.elbo - there.elbo) < 5 * (here.error + there.error)
    evidence = [
        gate_evidence(*pair, x, y)["hidden1"] for pair in ((fitted.model, fitted.guide), moved)
    ]
    error = evidence[0].error + evidence[1].error + 0.1
    far = (evidence[0].fixed_point - evidence[1].fixed_point).abs() >= 6 * error  # NaN: removed
    assert not far.any()
    means = [
        predict(*pair, x, num_draws=400).mean for pair in ((fitted.model, fitted.guide), moved)
    ]
    assert (means[0] - means[1]).abs().max() < 0.3 * means[0].std()


def test_a_pruned_network_is_the_masked_one():
    """Mean weights, closed nodes and predictors multiplied by 0, written out on the device."""
    x, y = images(64)
    model = MLP(256, [12], prior=PRIORS[0], likelihood=CLASSES, input_inclusion=0.5)
    fitted = quiet_fit(model, x, y, TrainingOptions(epochs=4, device="cuda", batch_size=32))
    kept = {"input": torch.arange(0, 256, 3), "hidden1": torch.tensor([0, 2, 3, 7])}
    selection = Selection(kept, {"input": 256, "hidden1": 12}, "some")
    pruned = prune(fitted.model, fitted.guide, selection)
    open = {name: selection.mask(name).to(GPU).float() for name in kept}
    x = x.to(GPU)
    with torch.no_grad(), isolated(0, x):
        w, v = (fitted.guide.mean_weights(name) for name in ("hidden1", "output"))
        hidden = torch.nn.functional.silu((x * open["input"]) @ w[:, :-1].T + w[:, -1])
        masked = (hidden * open["hidden1"]) @ v[:, :-1].T + v[:, -1]
        assert torch.allclose(pruned.network.to(GPU)(x), masked, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_pruned_networks_load_on_the_cpu(name, tmp_path):
    x, y = images(64)
    fitted = quiet_fit(
        NETWORKS[name](), x, y, TrainingOptions(epochs=4, device="cuda", batch_size=32)
    )
    pruned = prune(fitted.model, fitted.guide, num_draws=3)
    save_compact(pruned.network, tmp_path / "network.safetensors")
    loaded = load_compact(tmp_path / "network.safetensors", device="cpu")
    with torch.no_grad(), isolated(0, x.to(GPU)):
        outputs = pruned.network.to(GPU)(x.to(GPU)).cpu()
    assert torch.allclose(loaded(x), outputs, rtol=1e-3, atol=1e-3)


def test_a_fit_saved_on_the_gpu_goes_on_on_the_cpu_and_back(tmp_path):
    x, y = regression()
    options = {"epochs": 20, "compile": "trace"}
    fitted = quiet_fit(net(), x, y, TrainingOptions(**options, device="cuda"))
    save_fit(fitted, tmp_path / "fit.safetensors")
    loaded = load_fit(tmp_path / "fit.safetensors", device="cpu")
    for name, value in fitted.guide.state_dict().items():
        assert torch.equal(value.cpu(), loaded.guide.state_dict()[name])
    longer = quiet_fit(
        net(), x, y, TrainingOptions(**{**options, "epochs": 30}, device="cpu"), resume=loaded
    )
    back = quiet_fit(
        net(), x, y, TrainingOptions(**{**options, "epochs": 40}, device="cuda"), resume=longer
    )
    assert len(back.history) == 40
    assert next(back.guide.parameters()).is_cuda


def test_settings_for_products_are_the_runs_alone():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    a = torch.randn(512, 512, device=GPU)
    exact = a.double() @ a.double()
    errors = {}
    for allowed in (False, True):
        with tf32(allowed):
            errors[allowed] = (a @ a - exact).abs().max()
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    if torch.cuda.get_device_capability(GPU) >= (8, 0) and torch.version.hip is None:
        assert errors[True] > 10 * errors[False]


def test_minibatches_that_are_sent_ahead_are_the_same_in_order():
    given = [(torch.randn(100, 50), torch.arange(100)) for _ in range(7)]
    busy = torch.randn(2000, 2000, device=GPU)
    seen = 0
    for (x, y), (x_there, y_there) in zip(given, sent_ahead(iter(given), GPU), strict=True):
        busy = busy @ busy * 1e-3  # a step that takes a while
        doubled = 2 * x_there
        assert torch.equal(doubled.cpu(), 2 * x)
        assert torch.equal(y_there.cpu(), y)
        seen += 1
    assert seen == 7
