"""What is printed informs in a few lines, whatever the size."""

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.display import as_html, plain

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def result():
    net = ss.MLP(
        3,
        [4],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(scale=0.5),
        input_inclusion=0.3,
    )
    options = ss.TrainingOptions(epochs=3, batch_size=20, kl_warmup=0.0)
    return ss.fit(net, X, X[:, 0], options, progress=False)


def test_a_network(result):
    assert repr(result.model).splitlines() == [
        "MLP: 3 gated predictors -> hidden1 4 gated -> output 1",
        "  21 weights, activation silu",
        "  prior SSIG(scale=1.0, inclusion=0.5, scope='hidden')",
        "  output prior Gaussian(scale=1.0, inclusion=None, scope='hidden')",
        "  likelihood GaussianLikelihood(weighted=False, scale=0.5, num_targets=1, concentration=1.0, rate=0.001)",
    ]
    assert "(net): MLP: 3 gated predictors" in repr(torch.nn.ModuleDict({"net": result.model}))


def test_a_deep_network():
    net = ss.ResNet((3, 8, 8), 20, prior=ss.SSIG(), likelihood=ss.CategoricalLikelihood(10))
    first = repr(net).splitlines()[0]
    assert first == (
        "ResNet: 192 predictors -> stem 16 gated -> stage1_block1_conv1 16 gated -> ... 15 layers ..."
        " -> stage3_block3_conv1 64 gated -> stage3_block3_conv2 64 gated -> output 10"
    )
    assert (
        repr(net.description) == f"NetworkDescription: {first.partition(': ')[2]}; 268,346 weights"
    )


def test_a_fit_and_its_history(result):
    first, network, bound, active = repr(result).splitlines()
    assert first == "Fit of a StructuredGuide of MLP to 40 rows, epoch 3 of 3"
    assert network == "  3 gated predictors -> hidden1 4 gated -> output 1"
    history = result.history
    assert bound.startswith(f"  ELBO {plain(history.elbo[-1])} = log-likelihood ")
    counts = {name: rows[-1] for name, rows in history.active().items()}
    assert active == f"  active input {counts['input']} of 3, hidden1 {counts['hidden1']} of 4"
    assert repr(history).splitlines() == ["History of 3 epochs", bound, active]
    assert repr(ss.History()) == "History of 0 epochs"


def test_a_selection_and_a_pruning(result):
    selection = ss.select(result.guide.inclusion(), nodes={"input": 2, "hidden1": 1})
    rule = "median probability model; given numbers: input 2, hidden1 1"
    said = f"Selection: input 2 of 3, hidden1 1 of 4 ({rule})"
    assert repr(selection) == said
    pruning = ss.prune(result.model, result.guide, selection)
    assert repr(pruning) == f"Pruning: weights 21 -> 5, multiply-adds 21 -> 5\n  {said}"
    assert repr(ss.select({})) == "Selection: no gated groups (median probability model)"


def test_numbers_have_no_powers_of_ten_where_they_can_be_read():
    assert [plain(v) for v in (15473.0, -0.0001234, 0.0, 999999.5, 12.3456, float("inf"))] == [
        *("15,473", "-0.0001234", "0", "1,000,000", "12.35", "inf")
    ]
    assert plain(0.99996) == "1"
    assert plain(float("nan")) == ""
    assert plain(1e-9) == "1e-09"
    for value in (1.0 / 3, 123.456, 54321.9, 0.00777):
        assert float(plain(value).replace(",", "")) == pytest.approx(value, rel=5e-4)


def test_in_notebooks_tables_are_small_and_escaped(result):
    hostile = "<img src=x onerror=alert(1)>"
    assert "<img" not in as_html(hostile, [(hostile, hostile)], (hostile, hostile))
    prediction = ss.predict(result.model, result.guide, X, X[:, 0], quantiles=(0.05, 0.95))
    report = ss.Report((ss.Check("signal", "ok", hostile),))
    pruning = ss.prune(result.model, result.guide, ss.select(result.guide.inclusion(), nodes=2))
    shown = [value._repr_html_() for value in (result, prediction, report, pruning)]
    for html, words in zip(
        shown,
        (("network", "active input"), ("log_density", "95 %"), ("signal",), ("hidden1", "4 → 2")),
        strict=True,
    ):
        assert html.startswith("<table>")
        assert len(html) < 6_000
        assert "<img" not in html
        assert all(word in html for word in words)
    assert shown[1].count("<tr>") == 9  # a header and eight of forty rows


def test_inclusion_tables_escape_names_in_notebooks():
    hostile = "<script>x</script>"
    net = ss.MLP(
        2,
        [2],
        prior=ss.SSIG(),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=0.5,
        input_names=[hostile, "b"],
    )
    html = ss.inclusion_summary(ss.StructuredGuide(net))._repr_html_()
    assert hostile not in html
    assert "&lt;script&gt;" in html
