"""Theory beside practice: the distances, the slopes, the curve, and the script from end to end."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import torch

from pyro_ssbnn.theory import contraction_rate

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def contraction(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "contraction_plots", raising=False)
    spec = importlib.util.spec_from_file_location("contraction", FOLDER / "contraction.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "contraction", module)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("contraction_plots", None)


def test_the_teacher_is_sparse_and_of_variance_one(contraction):
    teacher = contraction.teacher()
    assert (teacher.hidden[:, contraction.REAL :] == 0).all()
    assert (teacher.hidden[:, : contraction.REAL] != 0).all()
    n = 100_000
    x = torch.randn(n, contraction.PREDICTORS)
    f = teacher(x)
    # |f| is at most the sum of four output weights, so its variance has a standard error below that squared / sqrt(n);
    # the teacher was scaled on as many draws of its own
    bound = float(teacher.output.abs().sum()) ** 2 / n**0.5
    assert float(f.var()) == pytest.approx(1, abs=4.5 * math.sqrt(2) * bound)
    changed = x.clone()
    changed[:, contraction.REAL :] = 0
    assert torch.equal(f, teacher(changed))
    row = [
        sum(w * v for w, v in zip(node, x[0].tolist(), strict=True)) + b
        for node, b in zip(teacher.hidden.tolist(), teacher.bias.tolist(), strict=True)
    ]
    by_hand = sum(o * math.tanh(h) for o, h in zip(teacher.output.tolist(), row, strict=True))
    assert float(f[0]) == pytest.approx(by_hand, abs=1e-5)


def test_noise_is_what_it_says(contraction):
    _, y, f = contraction.simulate(100_000, 5)
    error = contraction.NOISE**2 * (2 / 100_000) ** 0.5
    assert float((y - f).var()) == pytest.approx(contraction.NOISE**2, abs=4.5 * error)


def test_distances_by_hand(contraction):
    """Draws truth + 0.3 and truth - 0.1 at every x: squared distances 0.09 and 0.01, the mean 0.1 off."""
    truth = torch.linspace(-1, 1, 7).double()
    found = contraction.distances(torch.stack([truth + 0.3, truth - 0.1]), truth, noise=0.5)
    assert found["distance"] == pytest.approx(math.sqrt(0.05))
    assert found["rmse"] == pytest.approx(0.1)
    hellinger = (1 - math.exp(-0.09 / 2) + 1 - math.exp(-0.01 / 2)) / 2
    assert found["hellinger"] == pytest.approx(math.sqrt(hellinger))
    exact = contraction.distances(truth.expand(3, 7), truth, noise=0.5)
    assert exact == {"distance": 0.0, "hellinger": 0.0, "rmse": 0.0}


def test_hellinger_is_that_of_two_normals(contraction):
    """1 - integral of sqrt(p q), by the trapezium rule, exact to rounding for smooth functions that vanish."""
    gap, noise = 0.8, 0.5
    y = torch.linspace(-8, 8, 4_001).double()
    means, scale = torch.tensor([0.0, gap], dtype=torch.float64), torch.tensor(noise).double()
    normals = [torch.distributions.Normal(m, scale).log_prob(y).exp() for m in means]
    squared = 1 - float(torch.trapezoid((normals[0] * normals[1]).sqrt(), y))
    one = torch.zeros(1, 1).double()
    found = contraction.distances(one + gap, one[0], noise)["hellinger"]
    assert found**2 == pytest.approx(squared, abs=1e-9)


def test_small_distances_are_hellinger_distances_up_to_a_factor(contraction):
    """H tends to d / (sqrt(8) sigma)."""
    one = torch.zeros(1, 1).double()
    found = contraction.distances(one + 1e-4, one[0], noise=0.5)
    assert found["hellinger"] == pytest.approx(1e-4 / (math.sqrt(8) * 0.5), rel=1e-6)


def test_slopes_of_power_laws_are_their_exponents(contraction):
    records = [{"n": n, "rmse": 3.0 * n**-0.4} for n in (10, 100, 1_000, 5_000)]
    slope = contraction.slope(records, "rmse")
    assert slope.value == pytest.approx(-0.4)
    assert slope.error == pytest.approx(0, abs=1e-7)


def test_the_theorys_curve_passes_the_anchor_and_keeps_its_ratios(contraction):
    rows = [100, 1_000, 10_000]
    curve = contraction.theory_curve(rows, 4, 1_000, 0.2)
    assert curve[1] == pytest.approx(0.2)
    rates = [contraction_rate(contraction.WIDTHS, [4], n) for n in rows]
    assert curve[2] / curve[0] == pytest.approx(rates[2] / rates[0])
    # root n times logarithms: flatter than the parametric rate, and nearer to it the larger n
    slopes = [contraction.theory_slope(10**k, 10 ** (k + 1)) for k in (2, 5, 8)]
    assert all(-0.5 < s < -0.4 for s in slopes)


def test_from_the_command_line_to_the_plot(contraction, monkeypatch, tmp_path, capsys):
    out = tmp_path / "contraction.json"
    arguments = ["contraction.py", "--quick", "--steps", "20", "--priors", "ss-ig", "ss-ghs"]
    arguments += ["--json", str(out), "--plots", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    contraction.main()
    results = json.loads(out.read_text())
    assert set(results) == {f"{p}/{n}/0" for p in ("ss-ig", "ss-ghs") for n in (100, 300)}
    for record in results.values():
        # by Jensen's inequality the posterior is farther from the truth than its mean
        assert record["distance"] > record["rmse"] > 0
        assert 0 < record["hellinger"] < 1
        assert 0 < record["nodes"] <= contraction.STUDENT
        assert 0 <= record["predictors_found"] <= contraction.REAL
    assert (tmp_path / "contraction.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "| ss-ig | 300 | 1 |" in printed
    assert "| parametric | | -0.50 |" in printed
    monkeypatch.setattr(contraction, "run_one", None)  # finished fits are not run again
    contraction.main()
    assert json.loads(out.read_text()) == results
