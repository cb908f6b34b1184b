"""What a joint law says of its gates: against sums over all of them."""

import itertools
import math

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides.joint_law import JointLaw
from pyro_ssbnn.selection.error_control import _size_of
from pyro_ssbnn.selection.joint import GateTable, _grown_sets, _sets, gate_tables

BLOCKS = ([0, 2, 3, 5], [1, 4], [6])
STATES = list(itertools.product([0, 1], repeat=7))


def network(inclusion=0.3):
    likelihood = ss.GaussianLikelihood()
    return ss.MLP(7, [], prior=ss.Gaussian(), likelihood=likelihood, input_inclusion=inclusion)


def guide_of(*cells, inclusion=0.3, share=(1.0,)):
    """A settled guide with these laws of its blocks' gates, in each cell of the slab scale."""
    net = network(inclusion)
    guide = ss.BlockGuide(net).double()
    law = JointLaw(net.description, BLOCKS, len(cells)).double()
    law.get_buffer("share").copy_(torch.tensor(share))
    for number, tables in enumerate(zip(*cells, strict=True)):
        law.get_buffer(f"log_mass_{number}").copy_(torch.stack(tables).log().unsqueeze(1))
        identity = torch.eye(len(BLOCKS[number])).expand(1, 1, 1, -1, -1)
        law.get_buffer(f"precision_{number}").copy_(identity)
    guide.take_law(law)
    return guide


def random_tables(seed):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2 ** len(b), generator=generator, dtype=torch.float64).mul(2).softmax(0)
        for b in BLOCKS
    ]


@pytest.fixture(params=[1, 2], ids=["one cell", "two cells"])
def guide(request):
    if request.param == 1:
        return guide_of(random_tables(2))
    return guide_of(random_tables(2), random_tables(3), share=(0.6, 0.4))


def probabilities(guide):
    """Of every assignment of all seven gates."""
    law = guide.gate_law("input")
    return law.log_prob(torch.tensor(STATES).double()).sum(-1).exp()


def any_of(guide, members):
    hit = torch.tensor([any(state[i] for i in members) for state in STATES])
    return float(probabilities(guide)[hit].sum())


def test_inclusion_of_a_set_is_the_sum_over_all_gates(guide):
    for members in ([0], [2, 5], [0, 1, 6], [0, 1, 2, 3, 4, 5, 6]):
        assert ss.set_inclusion(guide, members) == pytest.approx(any_of(guide, members))
    assert ss.set_inclusion(guide, ["x1", "x3"]) == pytest.approx(any_of(guide, [0, 2]))


def test_model_size_is_that_of_the_joint_law(guide):
    mass = probabilities(guide)
    sizes = torch.tensor([sum(state) for state in STATES])
    expected = torch.stack([mass[sizes == k].sum() for k in range(8)])
    assert torch.allclose(ss.model_size(guide)["input"], expected)
    row = ss.layer_summary(guide).loc["input"]
    mean = float((expected * torch.arange(8)).sum())
    second = float((expected * torch.arange(8).square()).sum())
    assert row["expected_active"] == pytest.approx(mean)
    assert row["sd_active"] == pytest.approx(math.sqrt(second - mean**2))
    interval = ss.error_control_summary(guide).loc["input"]
    assert interval["size_mode"] == int(expected.argmax())


def test_a_set_of_a_mixture_has_the_average_of_its_members():
    net = network()
    guides = [ss.StructuredGuide(net, initial_inclusion=p) for p in (0.2, 0.9)]
    found = ss.set_inclusion(ss.MixtureGuide([net, net], guides, [0.25, 0.75]), [1, 4, 6])
    assert found == pytest.approx(0.25 * (1 - 0.8**3) + 0.75 * (1 - 0.1**3), rel=1e-5)


def test_blocks_of_three_and_of_two_by_enumeration():
    """Every pair of their assignments, by the number of gates that are open in both."""
    first, second = (torch.rand(n, dtype=torch.float64) for n in (8, 4))
    first, second = first / first.sum(), second / second.sum()
    expected = torch.zeros(6, dtype=torch.float64)
    for one, other in itertools.product(range(8), range(4)):
        expected[one.bit_count() + other.bit_count()] += first[one] * second[other]
    tables = [
        GateTable((0, 2, 4), torch.arange(8), first),
        GateTable((1, 3), torch.arange(4), second),
    ]
    torch.testing.assert_close(_size_of(tables), expected)


def test_independent_gates_are_blocks_of_one():
    net = ss.MLP(3, [4], prior=ss.SSIG(inclusion=0.3), likelihood=ss.GaussianLikelihood())
    guide = ss.StructuredGuide(net, initial_inclusion=0.7)
    assert [table.members for table in gate_tables(guide, "hidden1")] == [(j,) for j in range(4)]
    whole, alone = ss.model_size(guide)["hidden1"], ss.model_size(guide.inclusion())["hidden1"]
    assert torch.allclose(whole, alone)
    none = (1 - guide.inclusion()["hidden1"][[0, 2]]).prod()
    assert ss.set_inclusion(guide, [0, 2], "hidden1") == pytest.approx(1 - float(none))


def test_a_coupled_guide_that_is_sure_of_its_size_says_so():
    """One of two gates, never both: the number is 1 for sure, which inclusions of 1/2 cannot say."""
    net = ss.MLP(
        2, [2], prior=ss.SSIG(inclusion=0.5), likelihood=ss.GaussianLikelihood(), input_inclusion=0.5
    )  # fmt: skip
    guide = ss.CoupledGuide(net, coupled=["input"])
    with torch.no_grad():
        guide.input.coupling.copy_(torch.tensor([-60.0, 0.0, 0.0, -60.0]))
    size = ss.model_size(guide)["input"]
    assert torch.allclose(size, torch.tensor([0.0, 1.0, 0.0]).double())
    assert ss.layer_summary(guide).loc["input", "sd_active"] == pytest.approx(0, abs=1e-6)
    (found,) = ss.credible_sets(guide)
    assert found.members == (0, 1)
    assert found.probability == pytest.approx(1)


def test_sets_of_a_law_over_some_sets_are_grown_and_thinned():
    """{0, 1}, {0, 2}, {3} at 0.4, 0.3, 0.3: one of 0 and 3 is in for sure; without 0 there are 1 and 2."""
    table = GateTable(
        (4, 5, 6, 7), torch.tensor([0b0011, 0b0101, 0b1000]), torch.tensor([0.4, 0.3, 0.3]).double()
    )
    seven = pytest.approx(0.7)
    assert list(_grown_sets(table, 0.6)) == [([0], seven), ([1, 2], seven)]
    assert list(_grown_sets(table, 0.9)) == [([0, 3], pytest.approx(1.0))]
    # 1 is taken first, then 0 and 2; without 1 the two others say as much
    table = table._replace(
        sets=torch.tensor([0b0011, 0b0110, 0b0001, 0b0100]),
        probability=torch.tensor([0.3, 0.3, 0.2, 0.2]).double(),
    )
    assert list(_grown_sets(table, 0.95)) == [([0, 2], pytest.approx(1.0))]
    # 1 is taken first and dropped again, as it is here; with 3 and 4 it makes the next set
    table = GateTable(
        (0, 1, 2, 3, 4),
        torch.tensor([0b00011, 0b00110, 0b01001, 0b10001, 0b01100, 0b10100]),
        torch.tensor([0.3, 0.3, 0.11, 0.1, 0.09, 0.1]).double(),
    )
    one = pytest.approx(1.0)
    assert list(_grown_sets(table, 0.95)) == [([0, 2], one), ([1, 3, 4], one)]


def test_where_all_sets_are_listed_no_smaller_one_is_missed():
    """Grown from 0, the likeliest, one of {0, 3, 4} is in for sure; but so is one of {1, 2}."""
    sets = torch.tensor([0b00011, 0b00101, 0b10010, 0b01010, 0b01100, 0b10100])
    probability = torch.tensor([0.35, 0.35, 0.05, 0.1, 0.1, 0.05]).double()
    some = GateTable((0, 1, 2, 3, 4), sets, probability)
    every = GateTable((0, 1, 2, 3, 4), torch.arange(32), torch.zeros(32).double())
    every.probability[sets] = probability
    one = pytest.approx(1.0)
    assert list(_sets(every, 0.95)) == [([1, 2], one), ([0, 3, 4], one)]
    assert list(_sets(some, 0.95)) == [([0, 3, 4], one), ([1, 2], one)]


@pytest.mark.parametrize("probability", [0.5, 0.7, 0.9])
def test_sets_are_the_smallest_there_are(guide, probability):
    """Against all subsets of the largest block, one set after the other, whatever the prior thinks of them."""
    guide.description = network(inclusion=1e-6).description
    sets = [s for s in ss.credible_sets(guide, probability) if set(s.members) <= set(BLOCKS[0])]
    left = set(BLOCKS[0])
    for one in sets:
        assert one.probability == pytest.approx(any_of(guide, one.members))
        candidates = [
            c
            for k in range(1, len(left) + 1)
            for c in itertools.combinations(sorted(left), k)
            if any_of(guide, c) >= probability
        ]
        smallest = min(len(c) for c in candidates)
        likeliest = max(any_of(guide, c) for c in candidates if len(c) == smallest)
        assert len(one.members) == smallest
        assert one.probability == pytest.approx(likeliest)
        left -= set(one.members)
    assert not left or any_of(guide, left) < probability


def test_what_the_prior_alone_says_is_no_set():
    """Gates at their prior: seven at 0.5 hold an open one with probability 0.99, which is no news."""
    guide = guide_of([torch.full((2 ** len(b),), 0.5 ** len(b)) for b in BLOCKS], inclusion=0.5)
    assert ss.credible_sets(guide, 0.9) == []
    assert ss.credible_set_summary(guide, 0.9).empty


def test_competing_predictors_make_one_set_and_sure_ones_stand_alone():
    """One of 0, 2 and 3 is in, which one is open; 1 is in for sure."""
    first = torch.full((16,), 1e-9).double()
    first[[1, 2, 4]] = torch.tensor([0.5, 0.3, 0.2]).double()
    second = torch.tensor([1e-9, 0.98, 1e-9, 0.02]).double()
    guide = guide_of([first / first.sum(), second / second.sum(), torch.tensor([0.9, 0.1])])
    table = ss.credible_set_summary(guide, feature_names=list("abcdefg"))
    assert table["members"].tolist() == [("b",), ("a", "c", "d")]
    assert table["size"].tolist() == [1, 3]
    assert table["inclusion"].to_numpy() == pytest.approx([1, 1], abs=1e-6)
    assert table["prior_inclusion"].tolist() == pytest.approx([0.3, 1 - 0.7**3])
    assert (table["log_bayes_factor"] > 10).all()


def test_misuse_is_refused(guide):
    for probability in (0.0, 1.0):
        with pytest.raises(ConfigurationError, match="strictly between"):
            ss.credible_sets(guide, probability)
    with pytest.raises(ConfigurationError, match="no member 'weight'"):
        ss.set_inclusion(guide, ["weight"])
    for member in (7, -1):
        told = f"no member {member}; give indices from 0 to 6, or names of predictors"
        with pytest.raises(ConfigurationError, match=told):
            ss.set_inclusion(guide, [member])
    net = ss.MLP(3, [4], prior=ss.SSIG(inclusion=0.3), likelihood=ss.GaussianLikelihood())
    with pytest.raises(ConfigurationError, match=r"hidden1 has no member 4; give .* 0 to 3\.$"):
        ss.set_inclusion(ss.StructuredGuide(net), [4], "hidden1")
    with pytest.raises(ConfigurationError, match=r"no member 0\.5"):
        ss.set_inclusion(guide, [0.5])


def test_members_may_come_as_a_tensor(guide):
    expected = ss.set_inclusion(guide, [0, 2])
    assert ss.set_inclusion(guide, torch.tensor([0, 2])) == expected > 0


def test_sets_reach_arviz_and_the_command_line(capsys):
    from pyro_ssbnn.cli.tables import print_credible_sets

    second = torch.tensor([1e-9, 0.98, 1e-9, 0.02]).double()
    first = torch.full((16,), 1e-9).double()
    first[[1, 2]] = 0.5
    guide = guide_of([first / first.sum(), second / second.sum(), torch.tensor([0.9, 0.1])])
    data = ss.to_arviz(network(), guide, num_draws=3)
    numbers = data["constant_data"]["input.credible_set"].to_numpy()
    assert numbers.tolist() == [2, 1, 2, 0, 0, 0, 0]
    print_credible_sets(guide, every=False)
    printed = capsys.readouterr().out
    assert "x1, x3" in printed or "x3, x1" in printed
    print_credible_sets(
        guide_of([torch.full((2 ** len(b),), 0.5 ** len(b)) for b in BLOCKS], inclusion=0.5), True
    )
    assert "No set" in capsys.readouterr().out


def test_the_plot_of_predictors_marks_sets_of_several():
    from matplotlib.figure import Figure

    from pyro_ssbnn.analysis.plots import plot_predictor_inclusion

    first = torch.full((16,), 1e-9).double()
    first[[1, 2, 4]] = torch.tensor([0.5, 0.3, 0.2]).double()
    flat = [torch.full((4,), 0.25), torch.tensor([0.9, 0.1])]
    ax = plot_predictor_inclusion(
        guide_of([first / first.sum(), *flat]), ax=Figure().subplots(), top=3
    )
    marks = {round(text.get_position()[1]): text.get_text() for text in ax.texts}
    # Of the three shown, predictors 2 and 5 stand for each other with the first of their block.
    assert set(marks.values()) == {"set 1: 1.00"}
