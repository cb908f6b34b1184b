"""What is drawn where: bars, lines, points and labels, on axes given or new ones, without traces in pyplot."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pyro_ssbnn.analysis import slab_norms
from pyro_ssbnn.analysis.plots import (
    plot_coverage,
    plot_elbo,
    plot_inclusion,
    plot_inclusion_history,
    plot_observed,
    plot_predictive_band,
    plot_predictor_inclusion,
    plot_reliability,
    plot_scale_inclusion,
)
from pyro_ssbnn.analysis.plots.style import ACCENT, MUTED, figure_axes, prior_line
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.inference import History
from pyro_ssbnn.posterior.draws import PosteriorDraws, draw_posterior
from pyro_ssbnn.priors import SSGL, SSIG, Gaussian

pytestmark = pytest.mark.usefixtures("untouched_pyplot")


def axes(number=1):
    """Axes of a figure that pyplot knows nothing of."""
    return Figure().subplots(1, number, squeeze=False)[0]


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def logit(p):
    return np.log(p) - np.log1p(-np.asarray(p))


def readable(ax):
    """Draw all, and see that axes and title carry words."""
    ax.figure.canvas.draw()
    return bool(ax.get_xlabel() and ax.get_ylabel() and ax.get_title())


def history(epochs=10, warmup=4, sizes=(("hidden1", 4),), final=0.9):
    steps = np.linspace(0, 1, epochs)
    return History(
        log_likelihood=list(-100 - 1000 * (1 - steps) ** 4),
        kl=list(50 + 5000 * (1 - steps) ** 6),
        kl_weight=[min(1.0, (e + 1) / warmup) if warmup else 1.0 for e in range(epochs)],
        seconds=list(steps),
        inclusion={
            name: [np.linspace(0.95, [final] * size, epochs)[e] * 1.0 for e in range(epochs)]
            for name, size in sizes
        },
    )


# --- inclusion ------------------------------------------------------------------------------------


def test_bars_are_sorted_coloured_and_counted(build):
    _, guide = build([4], logits={"hidden1": logit([0.2, 0.9, 0.4, 0.6])})
    (ax,) = plot_inclusion(guide, ax=axes())
    np.testing.assert_allclose(
        [b.get_height() for b in ax.patches], [0.9, 0.6, 0.4, 0.2], rtol=1e-6
    )
    assert [to_hex(b.get_facecolor()) for b in ax.patches] == [
        c.lower() for c in (ACCENT, ACCENT, MUTED, MUTED)
    ]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "3", "2", "0"]
    assert ax.get_title() == "hidden1: 2 of 4 nodes active"
    assert list(line(ax, "threshold 0.5").get_ydata()) == [0.5, 0.5]
    assert list(line(ax, "prior 0.1").get_ydata()) == [0.1, 0.1]
    assert labels(ax) == ["threshold 0.5", "prior 0.1"]
    assert readable(ax)


@pytest.mark.parametrize("size", [1, 3])
def test_a_layer_with_all_gates_closed(build, size):
    _, guide = build([size], logits={"hidden1": -80.0})
    (ax,) = plot_inclusion(guide, ax=axes())
    assert ax.get_title() == f"hidden1: 0 of {size} {'node' if size == 1 else 'nodes'} active"
    assert [b.get_height() for b in ax.patches] == pytest.approx([0.0] * size)
    assert readable(ax)


def test_a_wide_layer_is_a_map_in_node_order(build):
    values = np.linspace(-6, 3, 400)
    _, guide = build([400, 65], logits={"hidden1": values, "hidden2": -9.0})
    first, second = plot_inclusion(guide, ax=axes(2))
    gamma = 1 / (1 + np.exp(-values))
    np.testing.assert_allclose(first.images[0].get_array().ravel(), gamma, rtol=1e-5)
    active = np.flatnonzero(gamma > 0.5)
    corners = [tuple(frame.get_xy()) for frame in first.patches]
    assert corners == [(node % 20 - 0.5, node // 20 - 0.5) for node in active]
    assert first.get_title() == f"hidden1: {len(active)} of 400 nodes active"
    cells = second.images[0].get_array().ravel()  # 8 rows of 9 cells, seven of them empty
    assert np.ma.masked_invalid(cells).count() == 65
    assert not second.patches
    assert readable(first)
    assert readable(second)


def test_kind_and_layers_can_be_chosen(build):
    _, guide = build([70, 3], logits={"hidden1": 2.0})
    (bars,) = plot_inclusion(guide, layers=["hidden1"], kind="bars", ax=axes())
    assert len(bars.patches) == 70
    assert [tick.get_text() for tick in bars.get_xticklabels()] == [str(j) for j in range(70)]
    (map_,) = plot_inclusion(guide, layers=["hidden2"], kind="map", ax=axes())
    assert len(map_.images) == 1


def test_nodes_too_low_to_be_seen_take_no_room(build):
    _, guide = build([64], logits={"hidden1": [5.0, 5.0] + [-20.0] * 61 + [-1.0]})
    (ax,) = plot_inclusion(guide, ax=axes())
    assert len(ax.patches) == 12
    assert [tick.get_text() for tick in ax.get_xticklabels()][:3] == ["0", "1", "63"]
    assert "52 more below 0.005" in ax.get_xlabel()
    assert ax.get_title() == "hidden1: 2 of 64 nodes active"


def test_a_predictor_at_its_prior_is_no_finding(build):
    prior = 0.3
    _, guide = build([3], input_inclusion=prior, logits={"input": [logit(prior), -9.0, -9.0]})
    ax = plot_predictor_inclusion(guide, ax=axes()[0])
    first, second = ax.patches[:2]
    assert first.get_facecolor()[3] == 0
    assert first.get_hatch()
    assert second.get_facecolor()[3] == 1
    assert "at its prior: the data say nothing of it" in labels(ax)


def test_inclusion_misuse(build):
    _, guide = build([2])
    _, dense = build([2], Gaussian())
    with pytest.raises(ConfigurationError, match="no gated layer"):
        plot_inclusion(dense)
    with pytest.raises(ConfigurationError, match="kind"):
        plot_inclusion(guide, kind="pie")
    with pytest.raises(ConfigurationError, match="has 1 panels"):
        plot_inclusion(guide, ax=axes(2))
    with pytest.raises(ConfigurationError, match="no gates"):
        plot_inclusion(guide, layers=["output"], ax=axes())


# --- history --------------------------------------------------------------------------------------


def test_elbo_draws_its_parts_and_shades_the_warmup():
    given = history()
    top, bottom = plot_elbo(given, ax=axes(2))
    np.testing.assert_allclose(line(top, "ELBO").get_ydata(), given.elbo)
    np.testing.assert_array_equal(line(top, "ELBO").get_xdata(), np.arange(1, 11))
    misfit = line(bottom, "misfit: −E[log-likelihood]").get_ydata()
    kl = line(bottom, "complexity: KL from the prior").get_ydata()
    np.testing.assert_allclose(-misfit - kl, given.elbo)
    for ax in (top, bottom):
        assert "KL warm-up" in labels(ax)
        (span,) = ax.patches
        assert (span.get_x(), span.get_width()) == (
            0.5,
            3.0,
        )  # epochs 1, 2, 3 had less than weight 1
    assert "-150 nats" in top.get_title()
    bottom.figure.canvas.draw()
    assert top.get_ylabel() == "nats"


def test_early_epochs_do_not_squash_the_elbo():
    given = history(epochs=100)
    top, _ = plot_elbo(given, ax=axes(2))
    low, high = top.get_ylim()
    late = given.elbo[50:]
    assert low < late.min() < late.max() < high
    assert low > given.elbo.min() / 4
    outside = int((given.elbo < low).sum())
    assert f"({outside} epochs outside the axis)" in labels(top)


def test_spikes_do_not_squash_the_elbo():
    """One epoch in a hundred whose bound is a million below the others."""
    given = history(epochs=200)
    calm = plot_elbo(given, ax=axes(2))[0].get_ylim()
    given.log_likelihood[150] -= 1e6
    given.log_likelihood[180] -= 1e6
    low, high = plot_elbo(given, ax=axes(2))[0].get_ylim()
    assert high - low < 1.5 * (calm[1] - calm[0])
    given.log_likelihood[-1] -= 1e3  # the last epoch is seen all the same
    low, _ = plot_elbo(given, ax=axes(2))[0].get_ylim()
    assert low < given.elbo[-1]


def test_elbo_per_observation_without_warmup_and_with_one_epoch():
    given = history(epochs=1, warmup=0)
    top, bottom = plot_elbo(given, num_data=10, ax=axes(2))
    assert line(top, "ELBO").get_ydata() == pytest.approx(given.elbo / 10)
    assert top.get_ylabel() == "nats per observation"
    assert labels(top) == ["ELBO"]
    assert not top.patches
    bottom.figure.canvas.draw()
    low, high = top.get_ylim()
    assert low < given.elbo[0] / 10 < high


def test_inclusion_history_counts_and_follows_every_node():
    given = history(sizes=(("input", 3), ("hidden1", 4)))
    for rows in given.inclusion["hidden1"][5:]:
        rows[:3] = 0.2
    counts, inputs, hidden = plot_inclusion_history(given, ax=axes(3))
    np.testing.assert_array_equal(
        line(counts, "hidden1: 1 of 4 at the end").get_ydata(), [4] * 5 + [1] * 5
    )
    np.testing.assert_array_equal(line(counts, "input: 3 of 3 at the end").get_ydata(), [3] * 10)
    assert inputs.get_title() == "input: 3 of 3 predictors active"
    assert hidden.get_title() == "hidden1: 1 of 4 nodes active"
    below, above = hidden.collections
    assert [len(below.get_segments()), len(above.get_segments())] == [3, 1]
    np.testing.assert_allclose(
        above.get_segments()[0][:, 1], [row[3] for row in given.inclusion["hidden1"]], rtol=1e-6
    )
    assert labels(hidden) == ["3 end below", "1 end above", "threshold 0.5"]
    assert all(readable(ax) for ax in (counts, inputs, hidden))


@pytest.mark.parametrize(("size", "final"), [(400, 0.1), (400, 0.9), (1, 0.1)])
def test_inclusion_history_of_a_wide_a_single_and_a_collapsed_layer(size, final):
    given = history(sizes=(("hidden1", size),), final=final)
    counts, hidden = plot_inclusion_history(given, ax=axes(2))
    word = "above" if final > 0.5 else "below"
    assert labels(hidden) == [f"{size} end {word}", "threshold 0.5"]
    if size == 400:
        median = line(hidden, f"400 end {word}").get_ydata()
        np.testing.assert_allclose(median, np.linspace(0.95, final, 10), rtol=1e-6)
        assert len(hidden.collections) == 2  # the bands of 90 and 50 %
    assert readable(hidden)
    assert readable(counts)


def test_history_misuse():
    with pytest.raises(ConfigurationError, match="no epoch"):
        plot_elbo(History())
    with pytest.raises(ConfigurationError, match="no epoch"):
        plot_inclusion_history(History())
    with pytest.raises(ConfigurationError, match="no gates"):
        plot_inclusion_history(history(sizes=()))
    with pytest.raises(ConfigurationError, match="2 panels"):
        plot_elbo(history(), ax=axes(3))


# --- slab scale -----------------------------------------------------------------------------------


def test_scale_points_and_whiskers(build):
    _, guide = build([2, 1], SSGL(inclusion=0.1), logits={"hidden1": logit([0.8, 0.3])})
    origin = guide.scale_moments("hidden1")[0]["variance"][0]
    guide.hidden1.scales.variance.loc.data = torch.tensor([2.0, -6.0]) - origin
    guide.get_submodule("global").penalty.log_scale.data.fill_(-40.0)
    (ax,) = axes()
    assert plot_scale_inclusion(guide, layers=["hidden1"], ax=ax) is ax
    whiskers, points = ax.collections
    np.testing.assert_allclose(
        points.get_offsets(), [[math.e, 0.8], [math.exp(-3), 0.3]], rtol=1e-5
    )
    (segment,) = whiskers.get_segments()  # only the active node has one
    half = 1.6448536 * 0.1 / 2
    expected = [[math.exp(1 - half), 0.8], [math.exp(1 + half), 0.8]]
    np.testing.assert_allclose(segment, expected, rtol=1e-5)
    assert ax.get_xscale() == "log"
    assert labels(ax) == ["hidden1: 1 of 2 active", "threshold 0.5"]
    assert "standard deviation" in ax.get_xlabel()
    assert readable(ax)


def test_scale_plot_of_wide_single_and_closed_layers(build):
    _, guide = build([400, 1], logits={"hidden1": -50.0, "hidden2": -50.0})
    ax = plot_scale_inclusion(guide, ax=axes()[0])
    points = [c.get_offsets() for c in ax.collections if len(c.get_offsets()) > 1]
    assert len(points[0]) == 400
    assert labels(ax)[:2] == ["hidden1: 0 of 400 active", "hidden2: 0 of 1 active"]
    assert readable(ax)


def test_without_a_slab_scale_the_norm_is_drawn(build):
    _, guide = build([3], SSIG(inclusion=0.1))
    ax = plot_scale_inclusion(guide, ax=axes()[0])
    (points,) = ax.collections
    np.testing.assert_allclose(points.get_offsets()[:, 0], slab_norms(guide, "hidden1"))
    assert ax.get_xlabel() == "norm of the posterior mean weights"


def test_scale_misuse(build):
    _, dense = build([2], Gaussian())
    with pytest.raises(ConfigurationError, match="no gated layer"):
        plot_scale_inclusion(dense)
    _, mixed = build([2])
    with pytest.raises(ConfigurationError, match="draw them apart"):
        plot_scale_inclusion(mixed, layers=["hidden1", "output"])


# --- predictors -----------------------------------------------------------------------------------


def test_predictor_bars_are_named_and_sorted(build):
    _, guide = build(
        input_inclusion=0.25,
        input_names=["age", "bmi", "dose"],
        logits={"input": logit([0.3, 0.9, 0.7])},
    )
    (ax,) = axes()
    assert plot_predictor_inclusion(guide, ax=ax) is ax
    assert [t.get_text() for t in ax.get_yticklabels()] == ["bmi", "dose", "age"]
    np.testing.assert_allclose([b.get_width() for b in ax.patches], [0.9, 0.7, 0.3], rtol=1e-6)
    assert to_hex(ax.patches[0].get_facecolor()) == ACCENT.lower()
    assert to_hex(ax.patches[2].get_facecolor()) == MUTED.lower()
    assert ax.yaxis_inverted() or ax.get_ylim()[0] > ax.get_ylim()[1]  # the highest on top
    assert ax.get_title() == "2 of 3 predictors selected"
    assert list(line(ax, "threshold 0.5").get_xdata()) == [0.5, 0.5]
    assert list(line(ax, "prior 0.25").get_xdata()) == [0.25, 0.25]
    assert readable(ax)


def test_many_predictors_are_cut_to_the_highest(build):
    values = np.linspace(-5, -1, 400)
    _, guide = build(inputs=400, input_inclusion=0.01, logits={"input": values})
    ax = plot_predictor_inclusion(guide, top=5, ax=axes()[0])
    names = [f"x{i}" for i in (400, 399, 398, 397, 396)]
    assert [t.get_text() for t in ax.get_yticklabels()] == names
    assert ax.get_title() == "0 of 400 predictors selected; the 5 highest shown"
    renamed = plot_predictor_inclusion(
        guide, top=1, feature_names=[f"gene {i}" for i in range(400)], ax=axes()[0]
    )
    assert [t.get_text() for t in renamed.get_yticklabels()] == ["gene 399"]


def test_names_are_no_formulas(build, tmp_path):
    """Dollars in a name are dollars, and a name of any length leaves room for the plot."""
    names = ["$_income_$", r"$\frac{", "a" * 5_000]
    _, guide = build(input_inclusion=0.4, input_names=names)
    (ax,) = axes()
    plot_predictor_inclusion(guide, ax=ax)
    ax.figure.savefig(tmp_path / "plot.png")
    shown = {label.get_text() for label in ax.get_yticklabels()}
    assert r"\$_income_\$" in shown
    assert max(map(len, shown)) < 100


def test_predictor_misuse(build):
    _, ungated = build()
    with pytest.raises(ConfigurationError, match="carry no gates"):
        plot_predictor_inclusion(ungated)
    _, gated = build(input_inclusion=0.1)
    with pytest.raises(ConfigurationError, match="top"):
        plot_predictor_inclusion(gated, top=0)


# --- predictions ----------------------------------------------------------------------------------


def band_draws():
    """Expected y 0, 1, ..., 100 plus x at x = 2, 0, 1; y spread twice as wide."""
    x = torch.tensor([2.0, 0.0, 1.0])
    mean = torch.arange(101.0)[:, None] + x
    nothing = torch.zeros(101)
    return x, PosteriorDraws({}, nothing, nothing, mean=mean, predictive=2 * mean)


def test_bands_are_quantiles_in_the_order_of_x():
    x, draws = band_draws()
    (ax,) = axes()
    assert plot_predictive_band(x[:, None], draws, [1.0, 2.0, 3.0], ax=ax) is ax
    mean = line(ax, "posterior mean")
    np.testing.assert_array_equal(mean.get_xdata(), [0, 1, 2])
    np.testing.assert_allclose(mean.get_ydata(), [50, 51, 52])
    limits = {
        band.get_label(): [v[1] for v in band.get_paths()[0].vertices if v[0] == 0]
        for band in ax.collections
    }
    expected = {
        "y: central 90 %": (10, 190),
        "y: central 50 %": (50, 150),
        "mean: central 90 %": (5, 95),
        "mean: central 50 %": (25, 75),
    }
    for label, (low, high) in expected.items():
        assert min(limits[label]) == pytest.approx(low)
        assert max(limits[label]) == pytest.approx(high)
    observed = line(ax, "observed")
    np.testing.assert_array_equal(observed.get_xdata(), [2, 0, 1])
    np.testing.assert_array_equal(observed.get_ydata(), [1, 2, 3])
    assert readable(ax)


def test_band_from_a_guide_with_observations_elsewhere(build):
    model, guide = build([3], inputs=1)
    grid = torch.linspace(-1, 1, 7)[:, None]
    draws = draw_posterior(model, guide, 20, x=grid)
    ax = plot_predictive_band(grid, draws, [0.5], x_observed=[0.1], ax=axes()[0])
    np.testing.assert_allclose(
        line(ax, "posterior mean").get_ydata(), draws.mean.mean(0), rtol=1e-5
    )
    assert list(line(ax, "observed").get_xdata()) == [0.1]


def test_band_misuse(build):
    x, draws = band_draws()
    with pytest.raises(DataError, match="one predictor"):
        plot_predictive_band(torch.zeros(3, 2), draws)
    with pytest.raises(DataError, match="4 points"):
        plot_predictive_band(torch.zeros(4), draws)
    with pytest.raises(DataError, match=r"must be \[3\]"):
        plot_predictive_band(x, draws, [1.0], ax=axes()[0])
    model, guide = build([2])
    with pytest.raises(DataError, match="their mean is None"):
        plot_predictive_band(x, draw_posterior(model, guide, 2))


def test_reliability_diagram():
    p, y = [0.1, 0.2, 0.8, 0.9], [0, 1, 1, 1]
    (ax,) = axes()
    assert plot_reliability(p, y, bins=2, ax=ax) is ax
    points = line(ax, "bins; below, their number of cases")
    np.testing.assert_allclose(points.get_xdata(), [0.15, 0.85])
    np.testing.assert_allclose(points.get_ydata(), [0.5, 1.0])
    assert [t.get_text() for t in ax.texts] == ["2", "2"]
    assert ax.get_title() == "reliability of 4 cases; calibration error 25.0 %"
    (intervals,) = ax.collections
    low, high = intervals.get_segments()[0][:, 1]
    # Wilson's interval for 1 of 2: (1/2 + z^2/4 -+ z sqrt(1/8 + z^2/16)) / (1 + z^2/2)
    z = 1.96
    half = z * math.sqrt(1 / 8 + z**2 / 16) / (1 + z**2 / 2)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half))
    assert "class 1" in ax.get_xlabel()
    assert readable(ax)
    named = plot_reliability(p, y, class_names=("well", "ill"), ax=axes()[0])
    assert "'ill'" in named.get_xlabel()
    assert "'ill'" in named.get_ylabel()


def test_counts_stand_below_everything_else_and_never_on_each_other():
    """Also where the means of two bins lie together, and where bins have one case."""
    p = [0.099, 0.101, 0.5, 0.95, 0.96, 0.999]
    ax = plot_reliability(p, [0, 1, 1, 1, 1, 1], ax=axes()[0])
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    others = [ax.get_legend().get_window_extent(), *(s.get_window_extent() for s in ax.get_lines())]
    lowest = ax.transData.transform((0, -0.02))[1]
    assert all(box.y1 <= lowest for box in boxes)
    assert not any(box.overlaps(others[0]) for box in boxes)


def test_coverage_and_observed_targets():
    ax = plot_coverage([0.5, 0.9], [0.4, 1.0], 10, ax=axes()[0])
    np.testing.assert_allclose(
        line(ax, "share of rows inside").get_xydata(), [[0.5, 0.4], [0.9, 1]]
    )
    segments = ax.collections[0].get_segments()
    assert segments[1][1][1] == 1
    assert segments[1][0][1] == pytest.approx(1 / (1 + 1.96**2 / 10))  # Wilson's for 10 of 10
    assert readable(ax)
    with pytest.raises(DataError, match=r"\[L\]"):
        plot_coverage([0.5], [0.4, 0.5], 10)
    y = np.arange(500.0)
    ax = plot_observed(y, y + 1, y - 2, y + 2, name="price", ax=axes()[0])
    assert len(line(ax, "rows").get_xdata()) == 400
    assert "the first 400 shown" in ax.get_title()
    assert readable(ax)
    with pytest.raises(DataError, match=r"\[N\]"):
        plot_observed(y, y[:3])


def test_reliability_of_several_classes_says_so():
    ax = plot_reliability(np.eye(3) * 0.7 + 0.1, [0, 1, 1], ax=axes()[0])
    assert ax.get_xlabel() == "predicted probability of the predicted class"
    assert [t.get_text() for t in ax.texts] == ["3"]


# --- new figures ----------------------------------------------------------------------------------


def test_without_axes_one_new_figure_is_made(build):
    _, guide = build([2, 2, 2, 2], input_inclusion=0.5)
    x, draws = band_draws()
    plots = {
        "inclusion": lambda: plot_inclusion(guide),
        "history": lambda: plot_inclusion_history(history()),
        "elbo": lambda: plot_elbo(history()),
        "scale": lambda: plot_scale_inclusion(guide),
        "predictors": lambda: plot_predictor_inclusion(guide),
        "band": lambda: plot_predictive_band(x, draws),
        "reliability": lambda: plot_reliability([0.2, 0.7], [0, 1]),
    }
    panels = {"inclusion": 4, "history": 2, "elbo": 2}
    for name, plot in plots.items():
        drawn = np.ravel(plot())
        assert len(plt.get_fignums()) == 1, name
        assert len(drawn) == panels.get(name, 1)
        figure = plt.gcf()
        assert all(ax.figure is figure for ax in drawn)
        assert len(figure.axes) == len(drawn)
        figure.canvas.draw()
        plt.close(figure)


def test_axes_given_by_pyplot_get_no_company(build):
    _, guide = build([2])
    figure, ax = plt.subplots()
    assert plot_inclusion(guide, ax=ax)[0] is ax
    assert plt.get_fignums() == [figure.number]
    plt.close(figure)


@pytest.mark.parametrize("vertical", [False, True])
def test_unequal_priors_are_a_step_over_the_members(vertical):
    """0.1 from -1/2 to 1/2, 0.4 to 3/2, 0.2 to 5/2; level between, and turned where members go upwards."""
    ax = Figure().subplots()
    prior_line(ax, np.array([0.1, 0.4, 0.2]), vertical=vertical)
    places, values = ax.lines[0].get_xydata().T[:: -1 if vertical else 1]
    assert places.min() == -0.5
    assert places.max() == 2.5
    assert values.max() == 0.4
    if vertical:  # drawn corner by corner
        assert values.tolist() == [0.1, 0.1, 0.4, 0.4, 0.2, 0.2]
        assert places.tolist() == [-0.5, 0.5, 0.5, 1.5, 1.5, 2.5]
    else:
        assert values.tolist() == [0.1, 0.4, 0.2, 0.2]
        assert ax.lines[0].get_drawstyle() == "steps-post"


def test_panels_that_are_left_over_are_taken_away():
    panels = figure_axes(None, 5, (1.0, 1.0), columns=3)
    assert len(panels) == len(panels[0].figure.axes) == 5
    plt.close(panels[0].figure)
