"""Inclusion over restarts: dots where they belong, disagreement coloured and counted."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pyro_ssbnn.analysis.plots import plot_restart_inclusion
from pyro_ssbnn.analysis.plots.style import COLOURS, MUTED
from pyro_ssbnn.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("untouched_pyplot")


def guides(build, gammas):
    gammas = np.asarray(gammas)
    logits = np.log(gammas) - np.log1p(-gammas)
    return [
        build(logits={"input": row}, inputs=gammas.shape[1], input_inclusion=0.2)[1]
        for row in logits
    ]


def test_dots_are_the_restarts_and_disagreement_is_coloured(build):
    found = guides(build, [[0.1, 0.9, 0.2], [0.05, 0.95, 0.8]])
    ax = plot_restart_inclusion(found, ax=Figure().subplots())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["x2", "x3", "x1"]
    dots = {c.get_label(): c for c in ax.collections if "restarts" in str(c.get_label())}
    assert set(dots) == {"restarts agree", "restarts disagree"}
    disagree = dots["restarts disagree"]
    np.testing.assert_allclose(disagree.get_offsets(), [[0.2, 1], [0.8, 1]], rtol=1e-5)
    assert to_hex(disagree.get_facecolor()[0]) == COLOURS[1].lower()
    agree = dots["restarts agree"]
    assert to_hex(agree.get_facecolor()[0]) == MUTED.lower()
    assert sorted(map(tuple, np.round(agree.get_offsets(), 3))) == [
        (0.05, 2.0),
        (0.1, 2.0),
        (0.9, 0.0),
        (0.95, 0.0),
    ]
    assert ax.get_title() == "restarts disagree on 1 of 3 predictors"
    assert "each of 2 restarts" in ax.get_xlabel()


def test_only_the_highest_are_drawn(build):
    found = guides(build, [[0.1, 0.9, 0.2], [0.05, 0.95, 0.3]])
    ax = plot_restart_inclusion(found, top=2, feature_names=["a", "b", "c"], ax=Figure().subplots())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "c"]
    assert ax.get_title() == "restarts disagree on 0 of 3 predictors; the 2 highest shown"


def test_misuse_is_refused(build):
    (one,) = guides(build, [[0.1, 0.9]])
    with pytest.raises(ConfigurationError, match="fits of one network; got 1"):
        plot_restart_inclusion([one])
    with pytest.raises(ConfigurationError, match="expected guides of one network; "):
        plot_restart_inclusion([one, *guides(build, [[0.1, 0.9, 0.5]])])
    with pytest.raises(ConfigurationError, match="no gates"):
        plot_restart_inclusion([build()[1], build()[1]])
    with pytest.raises(ConfigurationError, match="top must be"):
        plot_restart_inclusion([one, one], top=0)
