"""Selection with error control: closed-form cases, limits, Monte Carlo, and the Poisson-binomial distribution."""

import itertools
import math

import pytest
import torch
from scipy import stats

from pyro_ssbnn import (
    MLP,
    SSIG,
    GaussianLikelihood,
    MixtureGuide,
    StructuredGuide,
    prune,
    select,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.selection.error_control import (
    expected_false_omissions,
    expected_false_selections,
    model_size,
    select_fdr,
)


def kept(probabilities, level, **options):
    inclusion = {"hidden1": torch.tensor(probabilities, dtype=torch.float64)}
    return select_fdr(inclusion, level=level, **options).kept["hidden1"].tolist()


def test_the_largest_set_within_the_level():
    """1 - p sorted: 0.01, 0.05, 0.2, 0.8; averages 0.01, 0.03, 0.0867, 0.265."""
    probabilities = [0.2, 0.99, 0.8, 0.95]
    expected = {
        0.0: [],
        0.01: [1],
        0.029: [1],
        0.03: [1, 3],
        0.05: [1, 3],
        0.1: [1, 2, 3],
        0.27: [0, 1, 2, 3],
    }
    for level, members in expected.items():
        assert kept(probabilities, level) == members


def test_it_is_the_largest_of_all_sets_by_brute_force():
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        probabilities = torch.rand(8, generator=generator, dtype=torch.float64).sqrt()
        within = [
            len(subset)
            for size in range(1, 9)
            for subset in itertools.combinations((1 - probabilities).tolist(), size)
            if sum(subset) / size <= 0.2
        ]
        selection = kept(probabilities.tolist(), 0.2)
        assert len(selection) == max(within, default=0)
        best = probabilities.argsort(descending=True)[: len(selection)]
        assert selection == sorted(best.tolist())


def test_ties_enter_together_or_not_at_all():
    """Averages 0.02, 0.04, then 0.06 with one of the three at 0.9, 0.076 with all of them."""
    assert kept([0.98, 0.94, 0.9, 0.9, 0.9], 0.06) == [0, 1]
    assert kept([0.98, 0.94, 0.9, 0.9, 0.9], 0.0761) == [0, 1, 2, 3, 4]
    assert kept([0.95] * 3, 0.05) == [0, 1, 2]  # 1 - 0.95 rounds to above 0.05


def test_limits():
    assert kept([1.0, 1.0, 1.0], 0.0) == [0, 1, 2]
    assert kept([0.0, 0.0], 0.9) == []
    assert kept([], 0.5) == []


def test_selections_grow_with_the_level():
    probabilities = torch.rand(200, dtype=torch.float64).tolist()
    sets = [set(kept(probabilities, level)) for level in (0.0, 0.01, 0.05, 0.1, 0.3, 0.6)]
    assert all(a <= b for a, b in itertools.pairwise(sets))
    assert len(sets[-1]) > len(sets[1])


def test_the_order_of_members_does_not_matter():
    probabilities = torch.rand(50, dtype=torch.float64)
    shuffled = torch.randperm(50)
    direct = select_fdr({"hidden1": probabilities}, level=0.2).mask("hidden1")
    moved = select_fdr({"hidden1": probabilities[shuffled]}, level=0.2).mask("hidden1")
    assert torch.equal(direct[shuffled], moved)


def test_groups_apart_and_together():
    """Apart, averages of 1 - p: input 0.04, 0.37; hidden 0.02, 0.05, 0.17. Together 0.02, 0.03, 0.047, 0.135, ..."""
    inclusion = {"input": torch.tensor([0.96, 0.3]), "hidden1": torch.tensor([0.98, 0.92, 0.6])}
    apart = select_fdr(inclusion)
    assert {k: v.tolist() for k, v in apart.kept.items()} == {"input": [0], "hidden1": [0, 1]}
    pooled = select_fdr(inclusion, level=0.12, groups=["input", "hidden1"])
    assert {k: v.tolist() for k, v in pooled.kept.items()} == {"input": [0], "hidden1": [0, 1]}
    assert pooled.rule == "Bayesian false discovery rate at most 0.12 over input, hidden1 together"
    only = select_fdr(inclusion, groups=["input"])
    assert only.kept["hidden1"].tolist() == select(inclusion).kept["hidden1"].tolist() == [0, 1, 2]
    assert only.kept["input"].tolist() == [0]


def test_rates_are_what_the_posterior_expects(check_mean):
    """Gates drawn from the posterior: the numbers of false and of missed members average to the expected ones."""
    inclusion = {"hidden1": torch.rand(30, dtype=torch.float64)}
    selection = select_fdr(inclusion, level=0.25)
    mask = selection.mask("hidden1")
    truth = torch.bernoulli(inclusion["hidden1"].expand(40_000, -1))
    false = ((1 - truth) * mask).sum(-1)
    missed = (truth * ~mask).sum(-1)
    expected_false = expected_false_selections(inclusion, selection)["hidden1"]
    expected_missed = expected_false_omissions(inclusion, selection)["hidden1"]
    check_mean(false, torch.tensor(expected_false).double())
    check_mean(missed, torch.tensor(expected_missed).double())
    assert 0 < expected_false <= 0.25 * selection.counts["hidden1"]


def test_expected_numbers_by_hand():
    inclusion = {"input": torch.tensor([0.9, 0.4]), "hidden1": torch.tensor([0.7, 0.2, 0.6])}
    selection = select(inclusion)
    false = expected_false_selections(inclusion, selection)
    missed = expected_false_omissions(inclusion, selection)
    assert false == pytest.approx({"input": 0.1, "hidden1": 0.7})
    assert missed == pytest.approx({"input": 0.4, "hidden1": 0.2})


def test_a_selection_can_be_pruned_to():
    torch.manual_seed(0)
    net = MLP(3, [6], prior=SSIG(), likelihood=GaussianLikelihood())
    guide = StructuredGuide(net)
    with torch.no_grad():
        guide.hidden1.gate.logits.copy_(torch.tensor([5.0, -4.0, 4.0, 1.0, -5.0, 6.0]))
    selection = select_fdr(guide.inclusion())
    assert selection.kept["hidden1"].tolist() == [0, 2, 5]
    pruned = prune(net, guide, selection)
    assert pruned.network(torch.zeros(2, 3)).shape == (2, 1)


@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 1.0])
def test_equal_probabilities_give_the_binomial(p):
    mass = model_size({"hidden1": torch.full((40,), p)})["hidden1"]
    exact = torch.as_tensor(stats.binom.pmf(range(41), 40, float(torch.tensor(p))))
    # 40 convolutions of two products and a sum: relative error at most about 40 * 3 * 2^-53
    torch.testing.assert_close(mass, exact, rtol=1e-11, atol=1e-300)


def test_small_probabilities_keep_their_digits():
    """P(all of 60 with p = 1e-5) = 1e-300."""
    mass = model_size({"hidden1": torch.full((60,), 1e-5, dtype=torch.float64)})["hidden1"]
    assert mass[-1].item() == pytest.approx(1e-300, rel=1e-12)


def test_unequal_probabilities_by_enumeration():
    probabilities = torch.tensor([0.1, 0.8, 0.35], dtype=torch.float64)
    expected = torch.zeros(4, dtype=torch.float64)
    for gates in itertools.product([0, 1], repeat=3):
        chance = math.prod(
            p if z else 1 - p for z, p in zip(gates, probabilities.tolist(), strict=True)
        )
        expected[sum(gates)] += chance
    torch.testing.assert_close(model_size({"input": probabilities})["input"], expected)


def test_the_size_of_a_mixture_is_the_average_of_its_members():
    net = MLP(3, [6], prior=SSIG(), likelihood=GaussianLikelihood())
    guides = [StructuredGuide(net, initial_inclusion=p) for p in (0.2, 0.9)]
    found = model_size(MixtureGuide([net, net], guides, [0.25, 0.75]))["hidden1"]
    first, second = (torch.as_tensor(stats.binom.pmf(range(7), 6, p)) for p in (0.2, 0.9))
    torch.testing.assert_close(found, 0.25 * first + 0.75 * second, rtol=1e-5, atol=1e-7)


def test_five_thousand_members_keep_mean_and_variance():
    probabilities = torch.rand(5000, dtype=torch.float64)
    mass = model_size({"hidden1": probabilities})["hidden1"]
    counts = torch.arange(5001, dtype=torch.float64)
    mean, variance = probabilities.sum(), (probabilities * (1 - probabilities)).sum()
    # 5,000 roundings of relative size 2^-53 each
    assert mass.sum().item() == pytest.approx(1.0, rel=1e-11)
    assert (mass @ counts).item() == pytest.approx(mean.item(), rel=1e-11)
    assert (mass @ (counts - mean).square()).item() == pytest.approx(variance.item(), rel=1e-9)
    assert (mass >= 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i: select_fdr(i, level=1.0), r"level must lie in \[0, 1\)"),
        (lambda i: select_fdr(i, groups=["hidden2"]), "groups must name gated groups"),
        (lambda i: select_fdr(i, groups=[]), "groups must name gated groups"),
        (lambda i: select_fdr({"hidden1": i["hidden1"] + 1}), "those of 'hidden1' do not"),
        (lambda i: model_size({"hidden1": i["hidden1"] * math.nan}), "or are missing"),
        (
            lambda i: expected_false_selections({"input": i["hidden1"]}, select(i)),
            "the selection is of groups",
        ),
        (lambda i: expected_false_omissions({"hidden1": i["hidden1"][:1]}, select(i)), "made from"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ConfigurationError, match=message):
        call({"hidden1": torch.tensor([0.9, 0.2])})
