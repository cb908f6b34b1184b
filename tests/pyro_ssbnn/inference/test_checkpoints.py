"""A run that is killed goes on from its checkpoint as if nothing had happened."""

import logging
import time
import warnings
from dataclasses import replace

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CheckpointError, CollapseWarning, ConfigurationError
from pyro_ssbnn.inference import checkpoints, saving
from pyro_ssbnn.inference.checkpoints import Checkpoints, last_checkpoint

X = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
Y = torch.sin(X[:, 0])
OPTIONS = ss.TrainingOptions(
    epochs=12, batch_size=16, gate_rate=0.6, gate_hold=(0, 0), kl_warmup=0.1, compile=False
)


class KilledError(Exception):
    """What stands for a signal here: the run ends without a word."""


@pytest.fixture(autouse=True)
def _collapse_is_no_matter():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        yield


def net(prior=None):
    prior = ss.SSGHS(inclusion=0.3) if prior is None else prior
    likelihood = ss.GaussianLikelihood()
    return ss.MLP(5, [12], prior=prior, likelihood=likelihood, input_inclusion=0.2)


def run(path, options=OPTIONS, **more):
    return ss.fit(net(), X, Y, options, progress=False, checkpoint=path, **more)


def killed(path, epoch, options=OPTIONS, **more):
    def kill(done, result):
        if done == epoch:
            raise KilledError

    with pytest.raises(KilledError):
        run(path, options, callback=kill, checkpoint_every=1e-9, **more)


def assert_same(one, other):
    assert one.history.kl == other.history.kl
    assert one.history.log_likelihood == other.history.log_likelihood
    assert one.history.removed == other.history.removed
    states = [
        (one.guide.state_dict(), other.guide.state_dict()),
        (one.random_state, other.random_state),
    ]
    for first, second in states:
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), name


@pytest.mark.parametrize(
    "changes",
    [{}, {"dtype": "float64"}, {"optimizer": "sgd", "mean_rate": 0.01}, {"patience": 3}],
    ids=str,
)
def test_a_killed_run_goes_on_bit_by_bit(tmp_path, monkeypatch, changes):
    """Nodes leave the network before and after the checkpoint; a checkpoint after every block."""
    monkeypatch.setattr(checkpoints, "_LEAST_SHARE", 0)
    options, path = replace(OPTIONS, **changes), tmp_path / "run.safetensors"
    whole = ss.fit(net(), X, Y, options, progress=False)
    assert whole.history.removed
    for epoch in (1, 4, len(whole.history)):
        killed(path, epoch, options)
        left = ss.load_fit(path)
        assert epoch - 1 <= len(left.history) <= epoch
        result = run(path, options, resume=left)
        assert_same(result, whole)
        assert_same(ss.load_fit(path), whole)
        assert_same(run(path, options, resume=ss.load_fit(path)), whole)  # nothing is left to do
        for file in tmp_path.iterdir():
            file.unlink()


def test_checkpoints_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_LEAST_SHARE", 0)
    result = run(tmp_path / "run.safetensors", checkpoint_every=1e-9)
    assert_same(result, ss.fit(net(), X, Y, OPTIONS, progress=False))
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"run.safetensors", "run.previous.safetensors"}


def test_an_interrupted_run_leaves_where_it_was(tmp_path):
    def interrupt(done, result):
        if done == 5:
            raise KeyboardInterrupt

    path = tmp_path / "run.safetensors"
    with pytest.raises(ss.errors.TrainingInterrupted) as stopped:
        run(path, callback=interrupt)
    assert_same(ss.load_fit(path), stopped.value.result)
    assert_same(run(path, resume=ss.load_fit(path)), ss.fit(net(), X, Y, OPTIONS, progress=False))


def test_the_checkpoint_before_is_taken_where_the_newest_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_LEAST_SHARE", 0)
    path = tmp_path / "run.safetensors"
    assert last_checkpoint(path) is None
    killed(path, 6)
    older = ss.load_fit(tmp_path / "run.previous.safetensors")
    newest = ss.load_fit(path)
    assert 0 < len(older.history) < len(newest.history)
    assert len(last_checkpoint(path).history) == len(newest.history)
    path.write_bytes(path.read_bytes()[:-1])
    assert_same(last_checkpoint(path), older)
    path.unlink()  # the moment between the two renamings
    assert_same(last_checkpoint(path), older)
    path.write_bytes(b"")
    (tmp_path / "run.previous.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"run\.safetensors"):
        last_checkpoint(path)


def test_the_checkpoint_of_another_run_is_not_replaced(tmp_path):
    path = tmp_path / "run.safetensors"
    run(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"run\.safetensors is there already.*resume="):
        run(path)
    path.rename(tmp_path / "run.previous.safetensors")
    with pytest.raises(ConfigurationError, match=r"run\.previous\.safetensors is there already"):
        run(path)
    assert (tmp_path / "run.previous.safetensors").read_bytes() == before


def test_what_cannot_be_written_is_known_before_training(tmp_path):
    (tmp_path / "file").write_text("")

    def never(done, result):
        raise AssertionError

    with pytest.raises(ConfigurationError, match="checkpoint cannot be written"):
        run(tmp_path / "file" / "run.safetensors", callback=never)

    class Own(ss.SSIG):
        pass

    with pytest.raises(ConfigurationError, match="no name of its own"):
        ss.fit(
            net(Own(inclusion=0.5)),
            X,
            Y,
            OPTIONS,
            progress=False,
            checkpoint=tmp_path / "own.safetensors",
            callback=never,
        )
    with pytest.raises(ConfigurationError, match="checkpoint_every must be a positive"):
        run(tmp_path / "run.safetensors", checkpoint_every=0.0)


def test_training_goes_on_where_a_later_checkpoint_cannot_be_written(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(checkpoints, "_LEAST_SHARE", 0)
    write, path = checkpoints.write_fit, tmp_path / "run.safetensors"

    def full(result, *rest):
        if len(result.history) > 4:
            raise OSError("No space left on device")
        write(result, *rest)

    monkeypatch.setattr(checkpoints, "write_fit", full)
    with caplog.at_level(logging.WARNING):
        result = run(path, checkpoint_every=1e-9)
    assert len(result.history) == 12
    assert len(ss.load_fit(path).history) <= 4
    assert "No space left on device" in caplog.text


def test_checkpoints_cost_less_than_one_per_cent(tmp_path, monkeypatch):
    """However slow the disk: so much time passes between two of them."""
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def slow(*arguments):
        clock[0] += 3.0

    monkeypatch.setattr(checkpoints, "write_fit", slow)
    written = Checkpoints(tmp_path / "run.safetensors", 10.0)
    result = ss.fit(net(), X, Y, replace(OPTIONS, epochs=1), progress=False)
    written.begin(result)
    spent, start = 3.0, clock[0]
    for _ in range(3_000):
        clock[0] += 1.0
        if written.due:
            written.write(result)
            spent += 3.0
    assert spent > 9
    assert (spent - 3) / (clock[0] - start) < 0.01


def test_what_another_run_has_put_there_is_left_alone(tmp_path, caplog):
    """Whose folder was removed, and given to another, has no checkpoint any more, and goes on."""
    path, other = tmp_path / "run.safetensors", b"another run's"

    def replaced(done, result):
        if done == 2:
            path.write_bytes(other)

    with caplog.at_level(logging.WARNING, "pyro_ssbnn"):
        result = run(path, callback=replaced, checkpoint_every=1e-9)
    assert path.read_bytes() == other
    assert "is there, and not what this run wrote" in caplog.text
    assert_same(result, ss.fit(net(), X, Y, OPTIONS, progress=False))


def test_what_comes_while_a_checkpoint_is_written_is_left_alone(tmp_path, monkeypatch, caplog):
    """The look before the writing does not do: another run's file may come during it."""
    path, other = tmp_path / "run.safetensors", b"another run's"
    result = run(tmp_path / "first.safetensors")
    written = Checkpoints(path, 1e-9)
    written.begin(result)
    packed = saving.packed

    def slow(result):
        path.write_bytes(other)
        return packed(result)

    monkeypatch.setattr(saving, "packed", slow)
    with caplog.at_level(logging.WARNING, "pyro_ssbnn"):
        written.write(result)
    assert path.read_bytes() == other
    assert not list(tmp_path.glob(".*"))
    assert "is there, and not what this run wrote" in caplog.text
