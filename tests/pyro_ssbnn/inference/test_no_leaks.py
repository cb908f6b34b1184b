"""Training depends on its arguments alone, and changes nothing it was not given."""

import multiprocessing
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from types import SimpleNamespace

import pyro
import pytest
import torch

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSIG,
    BernoulliLikelihood,
    CategoricalLikelihood,
    CoupledGuide,
    GaussianLikelihood,
    ResNet,
    StructuredGuide,
    TrainingOptions,
    fine_tune,
    fit,
    fit_deterministic,
    load_fit,
    load_guide,
    save_fit,
)
from pyro_ssbnn.errors import (
    CollapseWarning,
    ConfigurationError,
    DataError,
    NonFiniteLossError,
    TrainingInterrupted,
)
from pyro_ssbnn.exact import SamplerOptions, sample_exact
from pyro_ssbnn.inference.optimizer import JointOptimizer
from pyro_ssbnn.inference.shrinking import LiveNetwork

OPTIONS = TrainingOptions(epochs=4, batch_size=10, kl_warmup=0.0, seed=3)
X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = X[:, 0] + 0.1 * X[:, 1]
IMAGES = torch.randn(24, 3 * 36, generator=torch.Generator().manual_seed(1))
LABELS = (IMAGES[:, 0] > 0).long()


def network():
    return MLP(3, [6], prior=SSGHS(inclusion=0.5), likelihood=GaussianLikelihood())


def residual():
    return ResNet(
        (3, 6, 6),
        depth=8,
        widths=(2, 2, 2),
        prior=SSIG(inclusion=0.5),
        likelihood=CategoricalLikelihood(2),
    )


def quiet(call, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return call(*args, progress=False, **kwargs)


def quiet_fit(net=None, x=X, y=Y, options=OPTIONS, **kwargs):
    return quiet(fit, net or network(), x, y, options, **kwargs)


def bits(result):
    """Everything a fit has come to, as values that compare; not its times."""
    state = {**result.guide.state_dict(), **result.model.state_dict(), **result.random_state}
    return {k: v.tolist() for k, v in state.items()}, result.history.kl, result.history.removed


class TestTheProcess:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("default", [torch.float32, torch.float64])
    def test_training_leaves_it_as_it_was(self, process_unchanged, dtype, default):
        torch.set_default_dtype(default)
        try:
            options = TrainingOptions(epochs=2, batch_size=20, dtype=dtype)
            net = network()
            with process_unchanged():
                result = quiet_fit(net, options=options)
                quiet(fine_tune, result, X, Y, options)
                quiet(fit_deterministic, net, X, Y, options)
        finally:
            torch.set_default_dtype(torch.float32)
        for tensor in result.guide.state_dict().values():
            assert tensor.dtype == getattr(torch, dtype)

    def test_the_default_dtype_changes_no_result(self):
        first = quiet_fit()
        torch.set_default_dtype(torch.float64)
        try:
            second = quiet_fit()
        finally:
            torch.set_default_dtype(torch.float32)
        assert bits(first) == bits(second)

    def test_files_and_exact_answers_leave_it_as_it_was(self, process_unchanged, tmp_path):
        result = quiet_fit()
        small = MLP(2, [], prior=SSIG(inclusion=0.5), likelihood=GaussianLikelihood(scale=1.0))
        few = SamplerOptions(chains=2, temperatures=2, warmup=20, num_draws=4)
        with process_unchanged():
            save_fit(result, tmp_path / "fit.safetensors")
            loaded = load_fit(tmp_path / "fit.safetensors")
            guide = load_guide(tmp_path / "fit.safetensors", network())
            predicted = sample_exact(small, X[:5, :2], Y[:5], few).predict(X[:, :2])
        assert bits(loaded) == bits(result)
        assert guide.inclusion()["hidden1"].tolist() == result.guide.inclusion()["hidden1"].tolist()
        assert predicted.mean.shape[-1] == len(X)

    def test_building_a_guide_draws_its_weights_as_torch_layers_do(self, process_unchanged):
        with process_unchanged():
            net = network()
        for kind in (StructuredGuide, CoupledGuide):
            torch.manual_seed(5)
            first = kind(net)
            second = kind(net)
            torch.manual_seed(5)
            again = kind(net)
            weights = [g.output.weight.loc.tolist() for g in (first, second, again)]
            assert weights[0] == weights[2] != weights[1]

    def test_a_failed_call_leaves_it_as_it_was(self, process_unchanged):
        def fail(epoch, result):
            raise ValueError("enough")

        with process_unchanged(), pytest.raises(ValueError, match="enough"):
            quiet_fit(callback=fail)

    def test_modules_made_under_either_setting_train_under_the_other(self):
        with pyro.settings.context(module_local_params=True):
            local = network()
        first = quiet_fit(local)
        net = network()
        with pyro.settings.context(module_local_params=True):
            second = quiet_fit(net)
        assert bits(first) == bits(second)

    def test_a_callbacks_random_numbers_change_nothing(self):
        def draw(epoch, result):
            torch.randn(3)
            StructuredGuide(network())
            quiet_fit(callback=None, options=TrainingOptions(epochs=1))

        assert bits(quiet_fit(callback=draw)) == bits(quiet_fit())


class TestTheModel:
    def test_a_fit_leaves_it_as_it_was_and_so_repeats(self):
        net = residual().double().train()
        before = deepcopy(net.state_dict())
        options = TrainingOptions(epochs=2, batch_size=12, remove_below=None)
        first = quiet_fit(net, IMAGES, LABELS, options)
        second = quiet_fit(net, IMAGES, LABELS, options)
        assert net.training
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
        assert bits(first) == bits(second)
        assert not first.model.training
        assert all(v.dtype == torch.float32 for v in first.model.state_dict().values())

    def test_a_deterministic_fit_sets_its_statistics_and_nothing_else(self):
        net = residual().double().train()
        options = TrainingOptions(epochs=2, batch_size=12)
        states = []
        for _ in range(2):
            quiet(fit_deterministic, net, IMAGES, LABELS, options)
            states.append({k: v.tolist() for k, v in net.state_dict().items()})
            assert net.training
            assert all(v.dtype == torch.float64 for v in net.state_dict().values())
        assert states[0] == states[1]
        assert states[0] != {k: v.tolist() for k, v in residual().state_dict().items()}

    def test_a_fit_starts_from_the_statistics_of_a_deterministic_one(self):
        """One step moves running statistics by a tenth of the way, from wherever they are."""
        net, fresh = residual(), residual()
        weights = quiet(fit_deterministic, net, IMAGES, LABELS, OPTIONS)
        guide = StructuredGuide(net)
        guide.start_from(weights)
        one = TrainingOptions(epochs=1, batch_size=24)
        first = quiet_fit(net, IMAGES, LABELS, one, guide=deepcopy(guide)).model.state_dict()
        second = quiet_fit(fresh, IMAGES, LABELS, one, guide=guide).model.state_dict()
        for name, start in net.state_dict().items():
            moved = 0.9 * (start - fresh.state_dict()[name])
            torch.testing.assert_close(first[name] - second[name], moved, rtol=1e-4, atol=1e-6)

    def test_an_earlier_result_stays_as_it_was_when_it_is_resumed(self):
        first = quiet_fit(options=TrainingOptions(epochs=2, batch_size=10))
        before = deepcopy(bits(first))
        second = quiet_fit(options=TrainingOptions(epochs=5, batch_size=10), resume=first)
        assert bits(first) == before
        assert len(second.history) == 5
        again = quiet_fit(options=TrainingOptions(epochs=5, batch_size=10), resume=first)
        assert bits(again) == bits(second)  # so the moments stayed, too


class TestTheData:
    def test_gradients_of_the_callers_data_stay_theirs(self):
        x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
        result = quiet_fit(x=x, y=y)
        assert x.grad is None
        assert y.grad is None
        assert bits(result) == bits(quiet_fit())

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_training_works_in_any_mode(self, mode):
        with mode():
            result = quiet_fit(x=X.clone(), y=Y.clone())
        assert bits(result) == bits(quiet_fit())
        with mode():
            net = network()
            weights = quiet(fit_deterministic, net, X.clone(), Y.clone(), OPTIONS)
            tuned = quiet(fine_tune, result, X.clone(), Y.clone(), OPTIONS)
        assert not any(w.is_inference() for w in weights.values())
        assert len(tuned.history) == OPTIONS.epochs

    def test_a_network_built_in_inference_mode_is_copied_a_guide_refused(self):
        with torch.inference_mode():
            net = residual()
            guide = StructuredGuide(net)
        quiet_fit(net, IMAGES, LABELS, TrainingOptions(epochs=1))
        with pytest.raises(ConfigurationError, match="inference_mode"):
            quiet_fit(net, IMAGES, LABELS, guide=guide)

    @pytest.mark.parametrize("which", ["x", "y"])
    def test_complex_numbers_are_refused(self, which):
        data = {"x": X, "y": Y}
        data[which] = data[which].to(torch.complex64)
        with pytest.raises(DataError, match=f"{which} is complex"):
            quiet_fit(**data)

    def test_whole_numbers_and_truth_values_are_converted(self):
        net = MLP(3, [4], prior=SSIG(inclusion=0.5), likelihood=BernoulliLikelihood())
        yes = X > 0
        runs = [quiet_fit(net, x, yes[:, 0].float()) for x in (yes, yes.long(), yes.float())]
        assert bits(runs[0]) == bits(runs[1]) == bits(runs[2])

    def test_an_augmentation_in_place_changes_its_copy(self):
        before = X.clone()
        options = TrainingOptions(epochs=2, batch_size=len(X))
        quiet_fit(options=options, augment=lambda x: x.mul_(2.0))
        assert torch.equal(X, before)


def breaking(monkeypatch, owner, name, at, error):
    """Let a method raise at its ``at``-th call, once the work is half done."""
    method, calls = getattr(owner, name), SimpleNamespace(count=0)

    def broken(self, *args, **kwargs):
        calls.count += 1
        result = method(self, *args, **kwargs)
        if calls.count == at:
            raise error
        return result

    monkeypatch.setattr(owner, name, broken)


def shrinking(**kwargs):
    """Sixty epochs in which nodes leave: most of the prior's nodes are not needed."""
    options = TrainingOptions(epochs=60, batch_size=20, gate_rate=0.2, kl_warmup=0.0)
    net = MLP(3, [12], prior=SSIG(inclusion=0.01), likelihood=GaussianLikelihood())
    return quiet_fit(net, options=options, **kwargs)


@pytest.fixture(scope="module")
def whole():
    """The run that nothing interrupts."""
    result = shrinking()
    assert result.history.removed
    return result


class TestBreakingOff:
    @pytest.mark.parametrize(
        ("owner", "name", "at"),
        [
            (JointOptimizer, "step", 1),
            (JointOptimizer, "step", 45),
            (JointOptimizer, "step", 100),
            (LiveNetwork, "close", 1),
            (LiveNetwork, "store", 1),
        ],
    )
    def test_an_interrupted_run_goes_on_bit_by_bit(self, monkeypatch, whole, owner, name, at):
        with monkeypatch.context() as patched:
            breaking(patched, owner, name, at, KeyboardInterrupt())
            with pytest.raises(TrainingInterrupted, match="of 60 epochs") as caught:
                shrinking()
        result = caught.value.result
        assert len(result.history) < 60
        lengths = {len(rows) for rows in result.history.inclusion.values()}
        assert lengths <= {len(result.history)}
        assert not result.model.training
        assert bits(shrinking(resume=result)) == bits(whole)

    def test_an_interruption_between_epochs_loses_nothing(self, whole):
        def stop(epoch, result):
            if epoch == 30:
                raise KeyboardInterrupt

        with pytest.raises(TrainingInterrupted, match="after 30 of 60 epochs") as caught:
            shrinking(callback=stop)
        assert bits(shrinking(resume=caught.value.result)) == bits(whole)

    def test_whatever_ends_it_the_guide_given_is_whole(self, monkeypatch):
        """It is what it was after one of the epochs before."""
        net = network()
        guide = StructuredGuide(net)
        states = [deepcopy(guide.state_dict())]
        quiet_fit(
            net,
            guide=deepcopy(guide),
            callback=lambda epoch, fit: states.append(deepcopy(fit.guide.state_dict())),
        )
        breaking(monkeypatch, JointOptimizer, "step", 11, RuntimeError("half a step"))
        with pytest.raises(RuntimeError, match="half a step"):
            quiet_fit(net, guide=guide)
        reached = guide.state_dict()
        assert any(all(torch.equal(reached[k], v) for k, v in s.items()) for s in states[:3])

    def test_a_diverged_run_leaves_the_guide_as_before_it(self):
        net = network()
        guide = StructuredGuide(net)
        options = TrainingOptions(epochs=5, batch_size=10, mean_rate=1e6, scale_rate=1e6)
        before = {k: v.clone() for k, v in guide.state_dict().items()}
        with pytest.raises(NonFiniteLossError):
            quiet_fit(net, options=options, guide=guide)
        assert all(torch.equal(v, before[k]) for k, v in guide.state_dict().items())

    def test_fine_tuning_is_interrupted_likewise(self):
        def stop(epoch, result):
            raise KeyboardInterrupt

        with pytest.raises(TrainingInterrupted) as caught:
            quiet(fine_tune, quiet_fit(), X, Y, OPTIONS, callback=stop)
        assert len(caught.value.result.history) == 1


class TestAtOnce:
    SEEDS = (0, 1, 2)

    def test_threads_give_what_one_after_the_other_gives(self):
        alone = [bits(quiet_fit(options=OPTIONS_OF[seed])) for seed in self.SEEDS]
        found = {}

        def work(seed):
            found[seed] = bits(fit(network(), X, Y, OPTIONS_OF[seed], progress=False))

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)
            threads = [threading.Thread(target=work, args=(seed,)) for seed in self.SEEDS]
            threads.append(threading.Thread(target=StructuredGuide, args=(network(),)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert [found[seed] for seed in self.SEEDS] == alone

    @pytest.mark.parametrize("method", ["spawn", "fork"])
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_processes_give_what_one_after_the_other_gives(self, method):
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip(f"no {method} here")
        seeds, at_once = self.SEEDS[:2], 1 if method == "spawn" else 2  # a start costs seconds
        alone = [bits(quiet_fit(options=OPTIONS_OF[seed])) for seed in seeds]
        with ProcessPoolExecutor(
            at_once, multiprocessing.get_context(method), torch.set_num_threads, (1,)
        ) as pool:
            runs = [pool.submit(fit, network(), X, Y, OPTIONS_OF[s], progress=False) for s in seeds]
            found = [bits(run.result()) for run in runs]
        assert found == alone


OPTIONS_OF = {
    seed: TrainingOptions(epochs=4, batch_size=10, kl_warmup=0.0, seed=seed)
    for seed in TestAtOnce.SEEDS
}
