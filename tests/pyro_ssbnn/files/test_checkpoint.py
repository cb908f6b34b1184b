"""Saving and loading: exact round trips, refusals, and no half-written files."""

import json
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    CategoricalLikelihood,
    GaussianLikelihood,
    StructuredGuide,
    TrainingOptions,
    fit,
    load_compact,
    load_fit,
    load_guide,
    predict_compact,
    prune,
    save_compact,
    save_fit,
    select,
)
from pyro_ssbnn.errors import CheckpointError, DataError
from pyro_ssbnn.files import container
from pyro_ssbnn.files.atomic import replacing, write_text
from pyro_ssbnn.models import compact_from_state

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = X[:, 0]


def net(**options):
    return MLP(
        3,
        [6],
        **{"prior": SSGHS(inclusion=0.5, cap=None), "likelihood": GaussianLikelihood(), **options},
    )


@pytest.fixture
def fitted():
    options = TrainingOptions(epochs=4, batch_size=8, kl_warmup=0.0)
    return fit(net(input_inclusion=0.3, input_names=["a", "b", "c"]), X, Y, options, progress=False)


def test_fit_round_trips_exactly(fitted, tmp_path):
    save_fit(fitted, tmp_path / "fit.safetensors")
    loaded = load_fit(tmp_path / "fit.safetensors")
    assert loaded.model.to_config() == fitted.model.to_config()
    assert loaded.options == fitted.options
    assert loaded.num_data == 40
    assert loaded.history.to_frame().equals(fitted.history.to_frame())
    for name, value in fitted.guide.state_dict().items():
        assert torch.equal(value, loaded.guide.state_dict()[name]), name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_goes_on_as_if_never_saved(tmp_path, dtype):
    short = TrainingOptions(epochs=6, batch_size=8, kl_warmup=0.0, dtype=dtype)
    whole = fit(net(), X, Y, short, progress=False)
    path = tmp_path / "half.safetensors"

    class StopError(Exception):
        pass

    def stop(epoch, result):
        if epoch == 3:
            save_fit(result, path)
            raise StopError

    with pytest.raises(StopError):
        fit(net(), X, Y, short, progress=False, callback=stop)
    half = load_fit(path)
    assert len(half.history) == 3
    resumed = fit(half.model, X, Y, short, resume=half, progress=False)
    assert resumed.history.kl == whole.history.kl
    for name, value in whole.guide.state_dict().items():
        assert torch.equal(value, resumed.guide.state_dict()[name]), name


@pytest.mark.parametrize("num_draws", [None, 3])
def test_compact_network_round_trips_exactly(fitted, tmp_path, num_draws):
    network = prune(fitted.model, fitted.guide, num_draws=num_draws).network
    save_compact(network, tmp_path / "net.safetensors", {"target": "y"})
    loaded = load_compact(tmp_path / "net.safetensors")
    assert torch.equal(loaded(X), network(X))
    assert torch.equal(loaded.kept["hidden1"], network.kept["hidden1"])
    assert torch.equal(loaded.input_index, network.input_index)
    for columns in (1, 2, 4, 50):  # of three predictors some are kept
        with pytest.raises(DataError, match=rf"x must be \[N, 3\].* got \[5, {columns}\]"):
            loaded(torch.zeros(5, columns))
        with pytest.raises(DataError, match=rf"x must be \[N, 3\].* got \[5, {columns}\]"):
            predict_compact(loaded, GaussianLikelihood(scale=1.0), torch.zeros(5, columns))


def test_compact_files_that_do_not_say_the_number_of_predictors_still_load(fitted):
    network = prune(fitted.model, fitted.guide).network
    record = network.to_config()
    del record["num_inputs"]
    older = compact_from_state(record, network.state_dict())
    assert older.num_inputs is None
    assert torch.equal(older(X), network(X))


def test_another_network_is_refused_with_the_first_difference(fitted, tmp_path):
    save_fit(fitted, tmp_path / "fit.safetensors")
    named = {"input_inclusion": 0.3, "input_names": ["a", "b", "c"]}
    prior = {"prior": SSGHS(inclusion=0.5, cap=None), "likelihood": GaussianLikelihood()}
    for other, first in [
        (MLP(3, [7], **prior, **named), "hidden1.size is 7 in the network and 6 in the file"),
        (net(), "input.inclusion is None in the network and 0.3 in the file"),
        (net(prior=SSGHS(inclusion=0.5), **named), r"hidden1.prior is SSGHS\(.*cap=1.0.*cap=None"),
        (net(likelihood=CategoricalLikelihood(3), **named), "output.size is 3"),
        (
            net(likelihood=GaussianLikelihood(rate=0.1), **named),
            r"the likelihood is GaussianLikelihood\(.*rate=0.1\) in",
        ),
        (net(activation="relu", **named), "the activation is 'relu' in the network and 'silu'"),
        (
            net(input_inclusion=0.3, input_names=["a", "c", "b"]),
            "the name of predictor 1 is 'c' in the network and 'b' in the file",
        ),
    ]:
        with pytest.raises(CheckpointError, match=f"that of another network: {first}"):
            load_guide(tmp_path / "fit.safetensors", other)
    same = net(**named)
    assert load_guide(tmp_path / "fit.safetensors", same).description == same.description


class TestRefusals:
    def test_missing(self, tmp_path):
        with pytest.raises(CheckpointError, match="no such file"):
            load_fit(tmp_path / "none.safetensors")

    def test_foreign_safetensors(self, tmp_path):
        save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors")
        with pytest.raises(CheckpointError, match="not one written by pyro_ssbnn"):
            load_fit(tmp_path / "foreign.safetensors")

    def test_not_safetensors_at_all(self, tmp_path):
        (tmp_path / "text").write_text("hello, this is not a tensor file")
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            load_fit(tmp_path / "text")

    def test_a_pickle_is_not_executed(self, tmp_path):
        torch.save({"a": torch.zeros(1)}, tmp_path / "pickle.pt")
        with pytest.raises(CheckpointError, match="not a safetensors file"):
            load_fit(tmp_path / "pickle.pt")

    def test_newer_format(self, fitted, tmp_path, monkeypatch):
        monkeypatch.setattr(container, "FORMAT_VERSION", 99)
        save_fit(fitted, tmp_path / "new.safetensors")
        monkeypatch.undo()
        with pytest.raises(
            CheckpointError, match=r"written in format 99 .* reads up to format 3. Upgrade"
        ):
            load_fit(tmp_path / "new.safetensors")

    @pytest.mark.parametrize("prior", [SSGL(inclusion=0.5), SSGHS(inclusion=0.5)])
    def test_a_group_lassos_fit_of_format_1_is_refused_and_others_are_read(self, prior, tmp_path):
        """Its numbers meant something else; those of the other guides mean the same."""
        result = fit(
            net(prior=prior), X, Y, TrainingOptions(epochs=1, batch_size=8), progress=False
        )
        save_fit(result, tmp_path / "new.safetensors")
        with safe_open(tmp_path / "new.safetensors", "pt") as file:
            metadata = dict(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata["header"])
        del header["guide"]  # which format 1 did not have
        header["hard_gates"] = True
        old = {**metadata, "format_version": "1", "header": json.dumps(header)}
        save_file(tensors, tmp_path / "old.safetensors", old)
        if prior.name == "ss-gl":
            with pytest.raises(CheckpointError, match=r"format 1.*hidden1.*group lasso.*fit anew"):
                load_fit(tmp_path / "old.safetensors")
            with pytest.raises(CheckpointError, match="fit anew"):
                load_guide(tmp_path / "old.safetensors", net(prior=prior))
        else:
            loaded = load_fit(tmp_path / "old.safetensors").guide.state_dict()
            for name, value in result.guide.state_dict().items():
                assert torch.equal(value, loaded[name]), name

    def test_cut_short(self, fitted, tmp_path):
        save_fit(fitted, tmp_path / "fit.safetensors")
        whole = (tmp_path / "fit.safetensors").read_bytes()
        for length in (0, 5, len(whole) // 2, len(whole) - 1):
            (tmp_path / "cut.safetensors").write_bytes(whole[:length])
            with pytest.raises(CheckpointError, match="not a safetensors file, or cut short"):
                load_fit(tmp_path / "cut.safetensors")

    def test_wrong_kind(self, fitted, tmp_path):
        save_fit(fitted, tmp_path / "fit.safetensors")
        with pytest.raises(CheckpointError, match="holds a saved fit, where a compact"):
            load_compact(tmp_path / "fit.safetensors")


class TestAtomic:
    def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(self, tmp_path):
        path = tmp_path / "a.json"
        write_text(path, "old")

        def interrupted():
            with replacing(path) as temporary:
                temporary.write_text("ne")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["a.json"]

    def test_a_failing_save_writes_nothing(self, fitted, tmp_path, monkeypatch):
        def fail(*args, **kwargs):
            raise OSError("disk full")

        monkeypatch.setattr(container, "save_file", fail)
        with pytest.raises(OSError, match="disk full"):
            save_fit(fitted, tmp_path / "sub" / "fit.safetensors")
        assert list((tmp_path / "sub").iterdir()) == []

    def test_written_whole_in_a_new_folder(self, tmp_path):
        write_text(tmp_path / "x" / "y.json", json.dumps([1]))
        assert json.loads((tmp_path / "x" / "y.json").read_text()) == [1]


def test_no_warnings_on_the_way(fitted, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_fit(fitted, tmp_path / "fit.safetensors")
        load_fit(tmp_path / "fit.safetensors")
    assert caught == []


@pytest.mark.parametrize(
    ("gated", "num_draws", "says_size"), [(True, None, True), (False, 3, False), (True, 2, False)]
)
def test_pruned_perceptrons_of_earlier_files_are_read(tmp_path, gated, num_draws, says_size):
    """Their layers are numbered, and there is no record of how they are put together."""
    net = MLP(
        4,
        [5, 3],
        prior=SSIG(inclusion=0.4),
        likelihood=GaussianLikelihood(),
        input_inclusion=0.5 if gated else None,
    )
    inclusion = {g.name: torch.rand(g.size) for g in net.description.gate_groups}
    for values in inclusion.values():
        values[0] = 0.9
    compact = prune(net, StructuredGuide(net), select(inclusion), num_draws=num_draws).network
    record = {key: compact.to_config()[key] for key in ("network", "activation", "kept")}
    if says_size:
        record["num_inputs"] = 4
    numbers = {name: str(i) for i, name in enumerate(compact.layers)}
    tensors = {}
    for name, value in compact.state_dict().items():
        first, *rest = name.split(".")
        renamed = ".".join([first, numbers[rest[0]], rest[1]]) if rest else name
        tensors[renamed] = value.contiguous()
    metadata = {
        "format": "pyro_ssbnn",
        "format_version": "2",
        "kind": "compact",
        "header": json.dumps({"compact": record, "notes": {}}),
    }
    save_file(tensors, tmp_path / "old", metadata=metadata)
    loaded = load_compact(tmp_path / "old")
    x = torch.randn(6, 4)
    assert torch.equal(loaded(x), compact(x))
    assert loaded.num_inputs == (4 if says_size or not gated else None)
    save_compact(loaded, tmp_path / "new")
    assert torch.equal(load_compact(tmp_path / "new")(x), compact(x))
