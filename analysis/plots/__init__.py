"""Diagnostic plots: each draws into the axes given, or into a new figure, and returns its axes; none shows it."""

from pyro_ssbnn.analysis.plots.coverage import plot_coverage, plot_observed
from pyro_ssbnn.analysis.plots.effects import plot_effect, plot_interactions
from pyro_ssbnn.analysis.plots.history import plot_elbo, plot_inclusion_history
from pyro_ssbnn.analysis.plots.inclusion import plot_inclusion
from pyro_ssbnn.analysis.plots.latency import plot_latency
from pyro_ssbnn.analysis.plots.predictions import plot_predictive_band, plot_reliability
from pyro_ssbnn.analysis.plots.predictors import plot_predictor_inclusion
from pyro_ssbnn.analysis.plots.restarts import plot_restart_inclusion
from pyro_ssbnn.analysis.plots.scales import plot_scale_inclusion

__all__ = [
    "plot_coverage",
    "plot_effect",
    "plot_elbo",
    "plot_inclusion",
    "plot_inclusion_history",
    "plot_interactions",
    "plot_latency",
    "plot_observed",
    "plot_predictive_band",
    "plot_predictor_inclusion",
    "plot_reliability",
    "plot_restart_inclusion",
    "plot_scale_inclusion",
]
