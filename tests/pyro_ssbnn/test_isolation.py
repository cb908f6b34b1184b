"""What the isolation of a call keeps from the process, and the process from it."""

import os
import random
import threading
from contextlib import suppress

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_ssbnn.isolation import (
    exclusive,
    isolated,
    limited_to,
    python_random_kept,
    random_state,
    seeded,
    set_random_state,
    tf32,
    without_parameters,
)

LIKE = torch.zeros((), dtype=torch.float64)


class TestIsolated:
    def test_the_process_is_as_before_whatever_the_block_does(self, process_unchanged):
        @isolated(3, LIKE)
        def call():
            torch.randn(3)
            pyro.param("mine", torch.tensor(5.0))
            pyro.param("other", torch.tensor(5.0))
            raise ValueError("out of the block")

        with process_unchanged(), pytest.raises(ValueError, match="out of the block"):
            call()

    def test_new_tensors_have_the_dtype_of_the_call(self):
        with isolated(0, LIKE):
            assert torch.ones(1).dtype == torch.float64
        assert torch.ones(1).dtype == torch.float32

    def test_random_numbers_are_the_seeds(self):
        with isolated(7, LIKE):
            drawn = torch.rand(4)
        torch.manual_seed(7)
        assert torch.equal(drawn, torch.rand(4, dtype=torch.float64))

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    @pytest.mark.parametrize("grad", [False, True])
    def test_differentiation_is_the_calls_choice(self, mode, grad):
        with mode(), isolated(0, LIKE, grad=grad):
            made = torch.ones(1)
            assert torch.is_grad_enabled() is grad
        assert not made.is_inference()

    def test_handlers_around_the_call_see_nothing_of_it(self):
        with poutine.trace() as trace:
            pyro.sample("mine", dist.Normal(0, 1))
            with isolated(0, LIKE):
                pyro.sample("theirs", dist.Normal(0, 1))
        assert list(trace.trace.nodes) == ["mine"]

    def test_plates_around_the_call_take_no_dimension_of_it(self):
        with pyro.plate("mine", 3, dim=-1):
            with isolated(0, LIKE), pyro.plate("theirs", 2, dim=-1):
                assert pyro.sample("z", dist.Normal(0, 1)).shape == (2,)
            assert pyro.sample("a", dist.Normal(0, 1)).shape == (3,)
        with pyro.plate("mine", 3, dim=-1):  # its dimension was given back
            pass

    def test_autocast_around_the_call_casts_nothing_of_it(self):
        one = torch.ones(2, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with isolated(0, LIKE):
                assert (one @ one).dtype == torch.float32
            assert (one @ one).dtype == torch.bfloat16

    def test_handlers_inside_the_call_work(self):
        with isolated(0, LIKE), poutine.trace() as trace:
            pyro.sample("site", dist.Normal(0, 1))
            pyro.param("parameter", torch.ones(1))
        assert list(trace.trace.nodes) == ["site", "parameter"]


def test_parameters_come_back_as_the_same_tensors_with_their_constraint():
    scale = pyro.param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
    loc = pyro.param("loc", torch.tensor(2.0))
    inside = scale.unconstrained(), loc.unconstrained()
    with without_parameters():
        assert len(pyro.get_param_store()) == 0
        pyro.param("loc", torch.zeros(3))
    assert pyro.param("loc").shape == ()
    assert pyro.param("scale") == 2.0
    # An SVI step in progress asks for these after the forward pass.
    assert (scale.unconstrained(), loc.unconstrained()) == inside
    assert pyro.get_param_store().param_name(inside[0]) == "scale"


class TestRandomNumbers:
    def test_the_stream_is_that_of_manual_seed(self):
        with seeded(5, torch.device("cpu")):
            drawn = torch.randn(3)
        torch.manual_seed(5)
        assert torch.equal(drawn, torch.randn(3))

    def test_states_continue_a_stream(self):
        states = random_state(torch.device("cpu"))
        first = torch.randn(3)
        set_random_state(states, torch.device("cpu"))
        assert torch.equal(torch.randn(3), first)

    def test_the_generator_is_that_of_the_device_given(self, monkeypatch):
        """A machine with two devices, made of the CPU's own generators."""
        generators = {i: torch.Generator().manual_seed(i) for i in (0, 1)}
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda d: generators[d.index].get_state())
        monkeypatch.setattr(
            torch.cuda, "set_rng_state", lambda state, d: generators[d.index].set_state(state)
        )
        make = torch.Generator
        monkeypatch.setattr(torch, "Generator", lambda device="cpu": make())
        before = {i: g.get_state() for i, g in generators.items()}
        second = torch.device("cuda:1")
        with seeded(4, second):
            assert generators[1].initial_seed() == 4
            assert torch.equal(generators[0].get_state(), before[0])
            states = random_state(second)
            drawn = torch.rand(2, generator=generators[1])
            set_random_state(states, second)
            assert torch.equal(torch.rand(2, generator=generators[1]), drawn)
        assert set(states) == {"cpu", "cuda"}
        assert all(torch.equal(g.get_state(), before[i]) for i, g in generators.items())

    def test_other_devices_generators_are_not_seeded(self, monkeypatch):
        asked = []
        for name in ("manual_seed", "manual_seed_all", "set_rng_state", "set_rng_state_all"):
            monkeypatch.setattr(torch.cuda, name, lambda *values, name=name: asked.append(name))
        with seeded(0, torch.device("cpu")):
            drawn = torch.randn(3)
        assert not asked
        assert torch.equal(drawn, torch.randn(3, generator=torch.Generator().manual_seed(0)))


class TestThreads:
    def test_blocks_of_two_threads_come_one_after_the_other(self):
        order = []

        def second():
            with exclusive():
                order.append("second")

        with exclusive(), exclusive():  # a thread may enter again
            thread = threading.Thread(target=second)
            thread.start()
            thread.join(0.05)
            assert thread.is_alive()
            order.append("first")
        thread.join()
        assert order == ["first", "second"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_child_does_not_wait_for_a_thread_it_has_not(self):
        inside, leave = threading.Event(), threading.Event()

        def hold():
            with exclusive():
                inside.set()
                leave.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        inside.wait()
        child = os.fork()
        if not child:
            with exclusive():
                os._exit(0)
        leave.set()
        thread.join()
        assert os.waitpid(child, 0)[1] == 0


def test_the_number_of_threads_comes_back():
    before = torch.get_num_threads()
    with limited_to(before + 1) as number:
        assert number == torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_first_import_may_draw_from_pythons_own_generator():
    before = random.getstate()
    with python_random_kept():
        random.random()
    assert random.getstate() == before


class TestTf32:
    """Torch's settings for products on CUDA, which can be read and set without it."""

    @staticmethod
    def settings():
        backends, found = torch.backends, {"matmul": None, "cudnn": None}
        with suppress(RuntimeError):
            found["matmul"] = torch.get_float32_matmul_precision()
        with suppress(RuntimeError):
            found["cudnn"] = backends.cudnn.allow_tf32
        parts = (
            backends.cuda.matmul,
            backends.cudnn.conv,
            backends.cudnn.rnn,
            backends.mkldnn.matmul,
        )
        return found, [getattr(part, "fp32_precision", None) for part in parts]

    @pytest.mark.parametrize(
        "chosen",
        [
            lambda: None,
            lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
            lambda: torch.set_float32_matmul_precision("medium"),
            lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
            lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
        ],
        ids=["default", "older", "medium", "newer", "convolutions"],
    )
    @pytest.mark.parametrize("allowed", [True, False])
    def test_the_setting_is_the_blocks_alone(self, chosen, allowed):
        if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
            pytest.skip("torch has the older setting only")
        default = self.settings()
        chosen()
        before = self.settings()
        with tf32(allowed):
            assert torch.backends.cuda.matmul.allow_tf32 is allowed
            assert torch.backends.cudnn.allow_tf32 is allowed
        try:
            assert self.settings() == before
        finally:
            torch.set_float32_matmul_precision("highest")
            torch.backends.cudnn.allow_tf32 = True
            for part in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
                part.fp32_precision = "none"
        assert self.settings() == default
