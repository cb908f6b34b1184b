"""Fits to rows that are read in pieces."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

import pyro_ssbnn as ss
from pyro_ssbnn.inference.training_rows import training_rows

NUMBER = 1_500
OPTIONS = {"epochs": 4, "batch_size": 250, "compile": False, "kl_warmup": 0.2}


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(NUMBER, 4, generator=generator)
    y = x[:, 0] - x[:, 1] ** 2 + 0.1 * torch.randn(NUMBER, generator=generator)
    return x, (y - y.mean()) / y.std()


@pytest.fixture
def net():
    return ss.MLP(4, [6], prior=ss.SSGHS(inclusion=0.3), likelihood=ss.GaussianLikelihood())


class Counted(ss.rows.ArraySource):
    """Rows that can be read so many times."""

    def __init__(self, x, y, times=10**6):
        super().__init__(x, y)
        self.times = times

    def blocks(self, seed=None):
        self.times -= 1
        for block in super().blocks(seed):
            if self.times >= 0:
                yield block


class Growing(ss.rows.ArraySource):
    """Rows that come twice from the third reading on."""

    readings = 0

    def blocks(self, seed=None):
        self.readings += 1
        for _ in range(1 + (self.readings > 2)):
            yield from super().blocks(seed)


class Pairs(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Stream(IterableDataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        return iter(zip(self.x, self.y, strict=True))


def state(result):
    return {name: value.clone() for name, value in result.guide.state_dict().items()}


def assert_same(first, second):
    for name, value in state(first).items():
        assert torch.equal(value, second.guide.state_dict()[name]), name


KINDS = {
    "arrays": ss.rows.ArraySource,
    "data set": Pairs,
    "stream": Stream,
    "loader": lambda x, y: DataLoader(Pairs(x, y), 64, shuffle=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_to_pieces_is_repeated_and_resumed_bit_by_bit(net, data, kind, tmp_path):
    rows = KINDS[kind](*data)
    options = ss.TrainingOptions(**OPTIONS)
    whole = ss.fit(net, rows, options=options, progress=False)
    assert whole.num_data == NUMBER
    again = ss.fit(net, KINDS[kind](*data), options=options, progress=False)
    assert_same(whole, again)

    def stop(epoch, fit):
        if epoch == 2:
            raise KeyboardInterrupt

    file = tmp_path / "run.safetensors"
    with pytest.raises(ss.errors.TrainingInterrupted):
        ss.fit(net, rows, options=options, progress=False, callback=stop, checkpoint=file)
    resumed = ss.fit(net, rows, options=options, progress=False, resume=ss.load_fit(file))
    assert resumed.history.elbo.tolist() == whole.history.elbo.tolist()
    assert_same(whole, resumed)


def test_a_run_goes_on_in_the_midst_of_an_epoch_of_several_records(net, data):
    """An epoch of 750 steps is two records; what a record reads does not hang on who read the one before."""
    rows = ss.rows.ArraySource(*data)
    options = ss.TrainingOptions(epochs=1, batch_size=2, num_particles=1, compile="trace")
    whole = ss.fit(net, rows, options=options, progress=False)
    assert len(whole.history) == 2

    def stop(record, fit):
        if record == 1:
            raise KeyboardInterrupt

    with pytest.raises(ss.errors.TrainingInterrupted) as stopped:
        ss.fit(net, rows, options=options, progress=False, callback=stop)
    resumed = ss.fit(net, rows, options=options, progress=False, resume=stopped.value.result)
    assert_same(whole, resumed)


def test_pieces_and_tensors_are_fitted_alike(net, data):
    """Only the order of the rows differs: as much as another order of the tensors' rows."""
    options = ss.TrainingOptions(epochs=100, batch_size=250, compile="trace")
    other = torch.randperm(NUMBER, generator=torch.Generator().manual_seed(3))
    fits = [
        ss.fit(net, *rows, options=options, progress=False)
        for rows in (data, (data[0][other], data[1][other]), (ss.rows.ArraySource(*data),))
    ]
    bounds = [ss.evaluate_bound(f.model, f.guide, *data, num_draws=128) for f in fits]
    elbo = [bound.elbo for bound in bounds]
    assert elbo[0] > 500  # a constant's is -2,130
    tolerance = max(3 * abs(elbo[0] - elbo[1]), 0.05 * abs(elbo[0]))
    assert elbo[2] == pytest.approx(elbo[0], abs=tolerance)
    # The bound of a source is that of a sample of its rows, here all of them, or scaled from a fifth.
    streamed = ss.evaluate_bound(
        fits[2].model, fits[2].guide, ss.rows.ArraySource(*data), num_draws=128
    )
    assert streamed.elbo == pytest.approx(elbo[2], abs=5 * (streamed.error + bounds[2].error))
    fifth = ss.evaluate_bound(
        fits[2].model, fits[2].guide, Pairs(*data), num_draws=128, max_rows=300
    )
    rows = ss.predict(fits[2].model, fits[2].guide, *data, num_draws=50).log_density
    sampling = NUMBER * float(rows.std()) / 300**0.5
    assert fifth.elbo == pytest.approx(elbo[2], abs=4 * (sampling + fifth.error))


def test_predictions_of_pieces_are_those_of_the_rows(net, data):
    result = ss.fit(net, *data, options=ss.TrainingOptions(**OPTIONS), progress=False)
    x, y = data
    asked = {"quantiles": (0.05, 0.95), "num_draws": 20}
    whole = ss.predict(result.model, result.guide, x, y, **asked)
    parts = list(ss.predict_blocks(result.model, result.guide, Pairs(x, y), **asked))
    assert len(parts) > 1
    for name in ("mean", "variance", "log_density"):
        found = torch.cat([getattr(part, name) for part in parts])
        assert torch.allclose(found, getattr(whole, name), rtol=1e-5, atol=1e-6), name
    assert torch.allclose(torch.cat([p.quantiles for p in parts], 1), whole.quantiles, atol=1e-5)
    unscored = next(ss.predict_blocks(result.model, result.guide, ss.rows.ArraySource(x)))
    assert unscored.log_density is None
    with pytest.raises(ss.errors.ConfigurationError, match="predict takes tensors"):
        next(ss.predict_blocks(result.model, result.guide, x))


def test_whatever_looks_at_all_rows_looks_at_a_sample(net, data):
    rows = training_rows("fit", net, ss.rows.ArraySource(*data), None, most=200)
    assert rows.num_data == NUMBER
    assert len(rows.x) == len(rows.x.unique(dim=0)) == 200
    found = (rows.x.unsqueeze(1) == data[0]).all(-1).float().argmax(1)
    assert torch.equal(data[1][found], rows.y)


def test_screening_held_gates_and_removal_go_on_a_stream(data):
    """The network that selects predictors: trees, ascent and the best state look at the sample."""
    number = 300  # trees of fewer rows are quicker
    noise = torch.randn(number, 10, generator=torch.Generator().manual_seed(4))
    rows = ss.rows.ArraySource(torch.cat([data[0][:number], noise], 1), data[1][:number])
    net = ss.MLP(
        14,
        [6],
        prior=ss.SSGHS(inclusion=0.3),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=0.2,
    )
    options = ss.TrainingOptions(epochs=60, batch_size=50, compile="trace")
    result = ss.fit(net, rows, options=options, progress=False)
    gates = result.guide.inclusion()["input"]
    assert gates[0] > 0.9
    assert gates[1] > 0.9
    assert float(gates[4:].max()) < 0.5
    assert result.history.removed
    report = ss.diagnose(result, rows, num_draws=100)
    assert report["convergence"].verdict
    assert report["rival predictors"].verdict == "ok"
    with pytest.raises(
        ss.errors.ConfigurationError, match="temperatures and certify need all rows"
    ):
        ss.diagnose(result, rows, num_draws=100, certify=1.0)


def test_several_fits_fine_tuning_and_a_deterministic_start_take_pieces(net, data):
    rows = ss.rows.ArraySource(*data)
    options = ss.TrainingOptions(**OPTIONS)
    mixture = ss.fit_several(net, rows, options=options, fits=2, progress=False)
    assert sum(mixture.weights) == pytest.approx(1)
    tuned = ss.fine_tune(mixture.best, rows, options=options, progress=False)
    assert tuned.num_data == NUMBER
    weights = ss.fit_deterministic(net, rows, options=options, progress=False)
    assert weights["hidden1"].shape == (6, 5)


def test_a_source_that_gives_fewer_rows_later_is_told(net, data):
    with pytest.raises(
        ss.errors.DataError, match="1,500 rows when it was first read, and in epoch 3 only 0 to 249"
    ):
        ss.fit(net, Counted(*data, times=3), options=ss.TrainingOptions(**OPTIONS), progress=False)


def test_a_source_that_gives_more_rows_later_is_told(net, data):
    with pytest.raises(ss.errors.DataError, match=r"1,500 rows .* and more in epoch 2"):
        ss.fit(net, Growing(*data), options=ss.TrainingOptions(**OPTIONS), progress=False)


def test_bad_rows_are_told_with_their_places(net, data):
    x = data[0].clone()
    x[1_234, 2] = float("nan")
    with pytest.raises(
        ss.errors.DataError, match=r"fit, rows 1,024 to 1,279 of the source: x has 1 .* row 210"
    ):
        ss.fit(net, Pairs(x, data[1]), progress=False)
    with pytest.raises(ss.errors.DataError, match="the source gives no targets"):
        ss.fit(net, ss.rows.ArraySource(x), progress=False)
    with pytest.raises(
        ss.errors.DataError, match="at least two rows of data are needed; the source gave 0"
    ):
        ss.fit(net, Stream([], []), progress=False)


def test_a_joint_law_is_refused_and_not_the_default(data):
    linear = ss.MLP(
        4, [], prior=ss.SSIG(inclusion=0.3), likelihood=ss.GaussianLikelihood(), input_inclusion=0.3
    )
    options = ss.TrainingOptions(**OPTIONS)
    result = ss.fit(linear, ss.rows.ArraySource(*data), options=options, progress=False)
    assert type(result.guide) is ss.StructuredGuide
    with pytest.raises(
        ss.errors.ConfigurationError, match="BlockGuide is settled on all rows together"
    ):
        ss.fit(linear, Pairs(*data), options=options, guide=ss.BlockGuide, progress=False)


def test_a_large_memory_map_is_not_copied(net, tmp_path):
    """Forty megabytes are read in blocks: the maps themselves stay untouched."""
    number = 10 * 2**18
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (number, 4))
    x[:] = np.random.default_rng(0).normal(size=(number, 4)).astype(np.float32)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    options = ss.TrainingOptions(epochs=1, batch_size=2**16, compile=False, num_particles=1)
    with pytest.warns(ss.errors.ShortRunWarning):
        result = ss.fit(net, mapped, mapped[:, 0], options, progress=False)
    assert result.num_data == number


def test_what_needs_all_rows_together_refuses_pieces(net, data):
    rows = DataLoader(Pairs(*data), batch_size=16)
    fit = ss.fit(net, *data, ss.TrainingOptions(**OPTIONS), progress=False)
    linear = ss.MLP(
        4, [], prior=ss.Gaussian(), likelihood=ss.GaussianLikelihood(), input_inclusion=0.5
    )
    refused = "needs all rows in memory, and a DataLoader is read in pieces"
    for call in (
        lambda: ss.gate_evidence(fit.model, fit.guide, rows, data[1]),
        lambda: ss.certify(fit, rows, data[1]),
        lambda: ss.settle(linear, ss.BlockGuide(linear), rows, data[1]),
    ):
        with pytest.raises(ss.errors.DataError, match=refused):
            call()
