"""One call from fit to report: which checks are made, what is refused, and that fits stay as they were."""

import json

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.analysis import diagnose
from pyro_ssbnn.errors import ConfigurationError, DataError

ALWAYS = [
    "convergence",
    "schedule",
    "gate rate",
    "signal",
    "calibration",
    "replicates",
    "prior predictive",
    "leave-one-out",
    "importance ratios",
    "threshold",
    "rival predictors",
    "prior odds",
    "prior power",
]
OPTIONS = ss.TrainingOptions(epochs=12, batch_size=40, seed=3)


def data(rows=80, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator)
    return x, x[:, 0] + 0.3 * torch.randn(rows, generator=generator)


def network(likelihood=None, input_inclusion=0.3, prior=None):
    return ss.MLP(
        3,
        [4],
        prior=prior or ss.SSIG(inclusion=0.3),
        likelihood=likelihood or ss.GaussianLikelihood(),
        input_inclusion=input_inclusion,
    )


@pytest.fixture(scope="module")
def fitted():
    x, y = data()
    return ss.fit(network(), x, y, OPTIONS, progress=False)


def test_all_checks_come_back_and_the_fit_stays_as_it_was(fitted):
    x, y = data()
    before = {k: v.clone() for k, v in fitted.guide.state_dict().items()}
    epochs, state = len(fitted.history), torch.get_rng_state()
    report = diagnose(fitted, x, y, restarts=3, temperatures=[1.0], num_draws=200)
    names = [check.name for check in report]
    assert names == [*ALWAYS, "temperature", "predictions", "predictors", "nodes"]
    assert torch.equal(torch.get_rng_state(), state)
    assert len(fitted.history) == epochs
    assert all(torch.equal(v, before[k]) for k, v in fitted.guide.state_dict().items())
    assert report["predictors"].values["restarts"] == 3
    for check in report:
        assert check.finding.endswith((".", "!"))
        assert bool(check.advice) == (check.verdict != "ok")
    record = json.loads(report.to_json())
    assert record["trustworthy"] == report.trustworthy
    assert [c["name"] for c in record["checks"]] == names


def test_the_same_seed_gives_the_same_report(fitted):
    x, y = data()
    assert (
        diagnose(fitted, x, y, num_draws=100).to_json()
        == diagnose(fitted, x, y, num_draws=100).to_json()
    )


def test_held_out_rows_judge_the_predictions(fitted):
    x, y = data()
    report = diagnose(fitted, x, y, held_out=data(50, 1), num_draws=100)
    assert "50 held-out rows" in report["calibration"].finding
    assert report["leave-one-out"].finding.startswith("Not needed")
    assert "k-hat" in report["importance ratios"].finding  # of the rows fitted to


def test_a_function_that_makes_the_network_is_fitted():
    x, y = data()
    report = diagnose(network, x, y, options=OPTIONS, restarts=2, num_draws=100)
    assert report["schedule"].values["planned"] == 12
    assert report["predictors"].values["restarts"] == 2


def test_fits_made_elsewhere_are_the_restarts(fitted):
    x, y = data()
    other = ss.fit(network(), x, y, ss.TrainingOptions(epochs=12, seed=9), progress=False)
    report = diagnose([fitted, other], x, y, num_draws=100)
    gamma = [float(f.guide.inclusion()["input"][0]) for f in (fitted, other)]
    values = report["predictors"].values
    assert [values["lowest"]["x1"], values["highest"]["x1"]] == pytest.approx(sorted(gamma))


@pytest.mark.parametrize(
    ("likelihood", "target"),
    [
        (ss.BernoulliLikelihood(), lambda y: (y > 0).float()),
        (ss.CategoricalLikelihood(3), lambda y: (y > 0).long() + (y > 1).long()),
        (ss.PoissonLikelihood(), lambda y: y.exp().round()),
        (ss.GaussianLikelihood(num_targets=2), lambda y: torch.stack([y, -y], 1)),
    ],
)
def test_every_likelihood_and_a_network_without_gates(likelihood, target):
    x, y = data()
    model = network(likelihood, None, ss.Gaussian())
    result = ss.fit(model, x, target(y), OPTIONS, progress=False)
    report = diagnose(result, x, target(y), restarts=2, num_draws=100)
    assert [check.name for check in report] == [*ALWAYS, "predictions"]


def test_filters_are_diagnosed_too():
    x, _ = data(60)
    x = torch.cat([x] * 12, 1)
    y = (x[:, 0] > 0).long()
    model = ss.LeNet(
        (1, 6, 6),
        (3,),
        (4,),
        kernel_size=3,
        prior=ss.SSGHS(inclusion=0.3),
        likelihood=ss.CategoricalLikelihood(2),
    )
    result = ss.fit(model, x, y, ss.TrainingOptions(epochs=2), progress=False)
    report = diagnose(result, x, y, restarts=2, num_draws=100)
    assert set(report["nodes"].values) == {"conv1", "hidden1"}


def test_of_many_rows_a_random_part_is_looked_at(fitted, monkeypatch):
    import dataclasses

    from pyro_ssbnn.analysis.diagnostics import evidence

    x, y = data()
    monkeypatch.setattr(evidence, "MOST_ROWS", 30)
    report = diagnose(dataclasses.replace(fitted), x, y, restarts=2, num_draws=100)
    assert "30 training rows" in report["calibration"].finding
    assert report["importance ratios"].finding.startswith("Not computed")
    part = evidence.gather(fitted, x, y, num_draws=100, held_out=False, seed=5)
    order = [int((x == row).all(1).nonzero()) for row in part.x]
    assert len(set(order)) == 30
    assert order != sorted(order)
    assert torch.equal(part.y, y[order])


def test_double_precision_is_kept():
    x, y = data()
    options = ss.TrainingOptions(epochs=4, dtype="float64")
    result = ss.fit(network(), x.double(), y.double(), options, progress=False)
    assert len(diagnose(result, x.double(), y.double(), num_draws=100)) == len(ALWAYS)


def test_what_cannot_be_diagnosed_is_refused(fitted):
    x, y = data()
    for arguments, options, message in [
        ((fitted, x[:40], y[:40]), {}, "80 rows, x has 40"),
        ((fitted, x, y), {"num_draws": 50}, "num_draws must be at least 100"),
        ((fitted, x, y), {"restarts": 0}, "at least 1; got 0"),
        ((fitted, x, y), {"options": OPTIONS}, "a fit brings its own"),
        (([fitted, fitted], x, y), {"restarts": 3}, "not both"),
        (([], x, y), {}, r"got \[\]"),
        ((network(), x, y), {}, "a network is given"),
        ((fitted, x, y), {"temperatures": [0.0]}, "positive share and temperature"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            diagnose(*arguments, **options)
    with pytest.raises(DataError, match="missing or infinite"):
        diagnose(fitted, x * float("nan"), y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:collapse")  # a noise beyond all of y leaves nothing to fit
def test_broken_fits_warn_by_the_check_meant_for_them_and_a_good_one_does_not():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator)
    y = x[:, 0] - 0.7 * x[:, 1] + 0.4 * torch.randn(200, generator=generator)
    y = (y - y.mean()) / y.std()

    def warned(likelihood=None, **options):
        model = network(likelihood, None)
        chosen = {"epochs": 500, "batch_size": 100, "gate_rate": 0.02, **options}
        result = ss.fit(model, x, y, ss.TrainingOptions(**chosen), progress=False)
        return {check.name for check in diagnose(result, x, y).warnings}

    assert warned() == set()
    assert "schedule" in warned(epochs=20)
    assert "calibration" in warned(ss.GaussianLikelihood(scale=0.05))
    assert {"calibration", "signal"} <= warned(ss.GaussianLikelihood(scale=3.0))
    assert "gate rate" in warned(epochs=50, gate_rate=1.0)
