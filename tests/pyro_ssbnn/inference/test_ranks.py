"""Several processes train one network: as one process would, and no longer when one of them is missing."""

import multiprocessing
import os
import signal
import tempfile
import time
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CollapseWarning, ConfigurationError, DataError, RankError
from pyro_ssbnn.inference import best, presence
from pyro_ssbnn.inference.ranks import Together

SHORT = ss.TrainingOptions(
    epochs=12, batch_size=24, dtype="float64", local_reparameterization=False, compile=False
)


def on_ranks(size, function, *arguments, timeout=120):
    """Call a function of the rank and the arguments in so many forked processes of one group.

    :returns: what each rank returned, ``[size]``; the exception it ended with; None for one that was killed.
    """
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, Python 3.12
        processes = [
            context.Process(target=_ranked, args=(folder, rank, size, function, arguments))
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout)
            process.kill()  # one that was stopped
            process.join()
        return [_found(Path(folder) / f"{rank}.pt") for rank in range(size)]


def _found(file):
    with torch.serialization.safe_globals([ConfigurationError, DataError, RankError]):
        return torch.load(file, weights_only=True) if file.exists() else None


def _ranked(folder, rank, size, function, arguments):
    torch.set_num_threads(1)
    store = dist.FileStore(os.path.join(folder, "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    try:
        found = function(rank, *arguments)
    except BaseException as error:
        traceback.print_exc()
        found = type(error)(*error.args)
    file = os.path.join(folder, f"{rank}.pt")
    torch.save(found, file + ".part")
    os.rename(file + ".part", file)
    os._exit(0)


def regression(n=96, p=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, p, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, generator=generator, dtype=torch.float64)
    return x, torch.sin(2 * x[:, 0]) + 0.1 * noise


def small_net(p=3, **options):
    options = {"prior": ss.SSGHS(inclusion=0.3), "likelihood": ss.GaussianLikelihood(), **options}
    return ss.MLP(p, [6], **options)


def images():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 3 * 8 * 8, generator=generator, dtype=torch.float64)
    return x + 3, (x.mean(1) > 0).long()


def resnet():
    likelihood = ss.CategoricalLikelihood(2)
    shape = {"image_shape": (3, 8, 8), "depth": 8, "widths": (2, 2, 2)}
    return ss.ResNet(**shape, prior=ss.SSIG(inclusion=0.5), likelihood=likelihood)


@contextmanager
def same_noise():
    """Every rank draws as a process alone would: weights that are drawn once for a minibatch are then the same."""
    before = Together.reseed, Together.own_seed
    Together.reseed = lambda self, *place: None
    Together.own_seed = lambda self, seed, *place: seed
    try:
        yield
    finally:
        Together.reseed, Together.own_seed = before


def trained(rank, net, data, options, same=False, distributed=True, **more):
    with warnings.catch_warnings(), same_noise() if same else warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        result = ss.fit(net(), *data(), options, progress=False, distributed=distributed, **more)
    state = {**result.guide.state_dict(), **result.model.state_dict()}
    return {
        "parameters": {name: value.detach().clone() for name, value in state.items()},
        "elbo": torch.as_tensor(result.history.elbo),
        "removed": [move[:3] for move in result.history.removed],
        "bounds": torch.tensor([reading.elbo for reading in result.history.bounds]),
    }


def assert_same(found, expected, rtol=1e-9, atol=1e-9):
    for name, value in expected["parameters"].items():
        torch.testing.assert_close(found["parameters"][name], value, rtol=rtol, atol=atol)
    torch.testing.assert_close(found["elbo"], expected["elbo"], rtol=rtol, atol=atol)
    torch.testing.assert_close(found["bounds"], expected["bounds"], rtol=1e-7, atol=1e-7)
    assert found["removed"] == expected["removed"]


@pytest.mark.parametrize("compile", [False, pytest.param("trace", marks=pytest.mark.slow)])
def test_two_ranks_move_as_one_process_does(compile):
    """Same weight draws: what is left between them is rounding. Gates are held, let go, ascend."""
    options = replace(SHORT, epochs=8, compile=compile)
    alone = trained(0, small_net, regression, options, distributed=False)
    for found in on_ranks(2, trained, small_net, regression, options, True):
        assert_same(found, alone)


def test_two_ranks_share_rows_that_are_read_in_pieces():
    """Every rank reads all rows in the same order, and takes its part of each minibatch."""

    def data():
        return torch.utils.data.TensorDataset(*regression()), None

    options = replace(SHORT, epochs=2, batch_size=23)
    alone = trained(0, small_net, data, options, distributed=False)
    for found in on_ranks(2, trained, small_net, data, options, True):
        assert_same(found, alone)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_a_whole_search_is_that_of_one_process(size, monkeypatch):
    """Screening of 14 predictors, removal, readings of the bound, parts that are not of the same size."""

    def net():
        return small_net(14, input_inclusion=0.2)

    def data():
        return regression(203, 14)

    monkeypatch.setattr(best, "_SHARE", 1.0)  # a short run may read the bound, too
    options = replace(SHORT, epochs=40, batch_size=47)
    alone = trained(0, net, data, options, distributed=False)
    assert len(alone["removed"]) > 9  # more than the screening's
    assert len(alone["bounds"])
    for found in on_ranks(size, trained, net, data, options, True):
        assert_same(found, alone, 1e-6, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("compile", [False, "trace"])
def test_batch_norms_see_the_whole_minibatch(compile):
    """Networks of images: parameters and running statistics, of unequal parts, far from zero."""
    options = ss.TrainingOptions(epochs=4, batch_size=11, dtype="float64", compile=compile)
    alone = trained(0, resnet, images, options, distributed=False)
    for found in on_ranks(2, trained, resnet, images, options, True):
        assert_same(found, alone, 1e-7, 1e-7)


@pytest.mark.slow
def test_free_draws_find_the_exact_posterior():
    """Linear regression with known noise on an orthogonal design, where mean field is exact."""

    def data():
        generator = torch.Generator().manual_seed(1)
        design = torch.randn(40, 4, dtype=torch.float64, generator=generator)
        design = torch.cat([torch.ones(40, 1, dtype=torch.float64), design], 1)
        x = torch.linalg.qr(design)[0][:, 1:] * 40**0.5
        return x, x @ torch.tensor([1.0, -2.0, 0.0, 0.3]).double()

    def net():
        return ss.MLP(4, [], prior=ss.Gaussian(), likelihood=ss.GaussianLikelihood(scale=0.5))

    options = ss.TrainingOptions(
        epochs=1000,
        batch_size=40,
        mean_rate=0.04,
        scale_rate=0.02,
        num_particles=10,
        dtype="float64",
    )
    first, second = on_ranks(2, trained, net, data, options)
    assert_same(first, second, 0, 0)
    parameters = first["parameters"]
    mean, log_scale = (parameters[f"output.weight.{name}"][0] for name in ("loc", "log_scale"))
    precision = 1 + 40 / 0.25
    exact = torch.tensor([1.0, -2.0, 0.0, 0.3, 0.0]).double() * (40 / 0.25) / precision
    torch.testing.assert_close(
        log_scale.exp(), torch.full_like(mean, precision**-0.5), rtol=0.02, atol=0
    )
    torch.testing.assert_close(mean, exact, rtol=0, atol=0.05 * precision**-0.5)


def fails_at_three(rank, folder, how):
    """A run whose rank 1 ends in epoch 3, and what the other says of it after how many seconds."""
    presence._EVERY, presence._SUSPECT, presence._SILENT = 0.1, 0.5, 1.5
    ended = time.time()

    def callback(epoch, result):
        nonlocal ended
        ended = time.time()
        if epoch == 3 and rank == 1:
            if how == "raise":
                raise ZeroDivisionError("nothing to divide by")
            os.kill(os.getpid(), how)

    more = {"callback": callback, "checkpoint": f"{folder}/run.safetensors"}
    try:
        trained(rank, small_net, regression, SHORT, **more)
    except (RankError, ZeroDivisionError) as error:
        return str(error), time.time() - ended


def test_a_killed_rank_ends_the_run_by_its_name_and_another_number_goes_on(tmp_path):
    (message, seconds), killed = on_ranks(2, fails_at_three, tmp_path, signal.SIGKILL)
    assert killed is None
    assert "rank 1 of 2 (" in message
    assert "no sign of life" in message
    assert seconds < 5
    earlier = ss.load_fit(tmp_path / "run.safetensors")
    assert 1 <= len(earlier.history) <= 3  # epochs of milliseconds are not all noted
    alone = trained(0, small_net, regression, SHORT, distributed=False, resume=earlier)
    assert len(alone["elbo"]) == 12
    before = torch.as_tensor(earlier.history.elbo)
    torch.testing.assert_close(alone["elbo"][: len(before)], before)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise", signal.SIGSTOP])
def test_a_rank_that_fails_or_hangs_is_named(tmp_path, how):
    (message, _), other = on_ranks(2, fails_at_three, tmp_path, how, timeout=10)
    assert "rank 1 of 2 (" in message
    assert other is None or "ZeroDivisionError: nothing to divide by" in message
    assert 1 <= len(ss.load_fit(tmp_path / "run.safetensors").history) <= 3


@pytest.mark.slow
def test_a_run_on_two_ranks_is_gone_on_with_bit_by_bit(tmp_path):
    def half_then_whole(rank):
        path = tmp_path / f"{rank}.safetensors"
        half = replace(SHORT, epochs=6, kl_warmup=0.5, gate_hold=(0.0, 0.0), decay_after=1.0)
        whole = replace(half, epochs=12, kl_warmup=0.25)
        uninterrupted = trained(rank, small_net, regression, whole)

        class EnoughError(Exception):
            pass

        def stop(epoch, result):
            if epoch == 6:
                ss.save_fit(result, path)
                raise EnoughError

        with pytest.raises(EnoughError):
            trained(rank, small_net, regression, whole, callback=stop)
        return uninterrupted, trained(rank, small_net, regression, whole, resume=ss.load_fit(path))

    for uninterrupted, resumed in on_ranks(2, half_then_whole):
        assert_same(resumed, uninterrupted, 0, 0)


@pytest.mark.slow
def test_ranks_that_are_not_called_alike_are_told_apart():
    def other_rows(rank):
        x, y = regression()
        return trained(rank, small_net, lambda: (x + rank, y), SHORT)

    def other_options(rank):
        return trained(rank, small_net, regression, replace(SHORT, seed=rank))

    def too_many(rank):
        return trained(rank, small_net, regression, replace(SHORT, batch_size=1))

    def come_apart(rank):
        def callback(epoch, result):
            with torch.no_grad():
                next(result.guide.parameters()).add_(0.1 * rank)

        return trained(rank, small_net, regression, SHORT, callback=callback)

    for function, kind, message in (
        (other_rows, ConfigurationError, "rank 1 was given other rows"),
        (other_options, ConfigurationError, "rank 1 was given other options than rank 0"),
        (too_many, ConfigurationError, "1 rows a step cannot be shared by 2"),
        (come_apart, RankError, "parameters of rank 1 are no longer those of rank 0"),
    ):
        for error in on_ranks(2, function):
            assert isinstance(error, kind), error
            assert message in str(error)


def loader(rank, **options):
    data = torch.utils.data.TensorDataset(*regression())
    return torch.utils.data.DataLoader(data, batch_size=16, **options)


class Later(ss.rows.ArraySource):
    """Rows whose order goes by the rank, too, or of which one is another, once they are read for an epoch."""

    def __init__(self, rank, changes):
        super().__init__(*regression())
        self.rank, self.changes = rank, changes

    def blocks(self, seed=None):
        if seed is not None and self.changes == "order":
            seed += self.rank
        for x, y in super().blocks(seed):
            order = torch.arange(len(x)) if seed is None else torch.arange(len(x)).roll(seed)
            x, y = x[order], y[order]
            if seed is not None and self.changes == "content":
                x[0] += 1e-9 * self.rank
            yield x, y


def test_a_loader_of_another_order_or_of_a_part_is_refused_before_a_step():
    """A generator of another seed on each rank; a sampler that shares the rows out already."""

    def generator(rank):
        own = torch.Generator().manual_seed(rank)
        data = loader(rank, shuffle=True, generator=own)
        return trained(rank, small_net, lambda: (data, None), SHORT)

    def shared_out(rank):
        data = torch.utils.data.TensorDataset(*regression())
        sampler = torch.utils.data.distributed.DistributedSampler(data)
        given = loader(rank, sampler=sampler)
        return trained(rank, small_net, lambda: (given, None), SHORT)

    for function in (generator, shared_out):
        for error in on_ranks(2, function):
            assert isinstance(error, ConfigurationError), error
            assert "rank 1 was given other rows, or the same in another order" in str(error)
            assert "DistributedSampler" in str(error)


@pytest.mark.parametrize("changes", ["order", "content"])
def test_rows_that_come_apart_later_are_refused_at_the_end_of_the_block(changes, tmp_path):
    """What was trained on them is not kept."""
    path = tmp_path / "run.safetensors"

    def of(rank):
        rows = Later(rank, changes)
        return trained(rank, small_net, lambda: (rows, None), SHORT, checkpoint=path)

    for error in on_ranks(2, of):
        assert isinstance(error, DataError), error
        assert "rank 1 has now been given other rows, or the same in another order" in str(error)
    assert len(ss.load_fit(path).history) == 0


def test_a_loader_that_shuffles_by_the_runs_seed_gives_what_one_process_gets():
    """Also by a generator of its own, of the same seed everywhere."""

    def data():
        own = torch.Generator().manual_seed(3)
        return loader(0, shuffle=True, generator=own), None

    options = replace(SHORT, epochs=2)
    alone = trained(0, small_net, data, options, distributed=False)
    for found in on_ranks(2, trained, small_net, data, options, True):
        assert_same(found, alone)


def test_gradients_stay_where_they_were():
    """An optimizer that replays a recording reads them there at every step."""

    def of(rank):
        parameter = torch.nn.Parameter(torch.zeros(2, 3))
        with Together(torch.device("cpu")) as ranks:
            places, sums = [], []
            for step in range(3):
                parameter.grad = torch.full((2, 3), float(step + rank))
                terms = ranks.step(torch.ones(4), [parameter], 7)  # 3 and 4 rows
                places.append(parameter.grad)
                sums.append(parameter.grad.clone())
        assert terms.tolist() == pytest.approx([1.0] * 4)
        return all(place is places[0] for place in places), torch.stack(sums)

    for same, sums in on_ranks(2, of):
        assert same
        expected = torch.arange(3.0) + 4 / 7
        torch.testing.assert_close(sums, expected[:, None, None].expand(3, 2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_of_two_ranks_keeps_its_optimizer_for_one_process(optimizer, tmp_path):
    """Name, rates and moments are in its file; another rank that resumes from another state is told."""
    path = tmp_path / "run.safetensors"
    chosen = replace(SHORT, epochs=4, optimizer=optimizer, mean_rate=0.003, gate_rate=0.002)

    def of(rank):
        trained(rank, small_net, regression, chosen, checkpoint=path)
        dist.barrier()  # rank 0 writes
        earlier = ss.load_fit(path)
        if rank == 1:
            next(iter(earlier.optimizer_state["state"].values()))[
                "exp_avg" if optimizer == "adam" else "momentum_buffer"
            ].add_(1)
        return trained(rank, small_net, regression, replace(chosen, epochs=6), resume=earlier)

    for error in on_ranks(2, of):
        assert "rank 1 was given another run to resume than rank 0" in str(error)
    earlier = ss.load_fit(path)
    assert earlier.options.optimizer == optimizer
    rates = {group["kind"]: group["base_rate"] for group in earlier.optimizer_state["param_groups"]}
    alone = ss.fit(small_net(), *regression(), chosen, progress=False)
    assert rates == {
        group["kind"]: group["base_rate"] for group in alone.optimizer_state["param_groups"]
    }
    assert earlier.optimizer_state["state"].keys() == alone.optimizer_state["state"].keys()
    longer = trained(
        0, small_net, regression, replace(chosen, epochs=6), distributed=False, resume=earlier
    )
    assert len(longer["elbo"]) == 6


def test_parts_cover_the_rows_once_and_seeds_differ():
    def of(rank, size):
        ranks = Together.__new__(Together)
        ranks.rank, ranks.size = rank, size
        return ranks

    for size, rows in ((2, 7), (3, 3), (4, 1001)):
        parts = [list(range(rows)[of(rank, size).part(rows)]) for rank in range(size)]
        assert [row for part in parts for row in part] == list(range(rows))
        assert sum(of(rank, size)._weight(rows) for rank in range(size)) == pytest.approx(1)
    seeds = {
        of(rank, size).own_seed(0, record)
        for rank, size in ((0, 2), (1, 2), (1, 3))
        for record in range(5)
    }
    assert len(seeds) == 15


def test_distributed_asks_for_a_process_group():
    with pytest.raises(ConfigurationError, match="init_process_group"):
        ss.fit(small_net(), *regression(), SHORT, progress=False, distributed=True)
