"""Looking at a fitted network: ArviZ data, tables of inclusion, calibration, latency, plots."""

from pyro_ssbnn.analysis.calibration import (
    Reliability,
    brier_score,
    expected_calibration_error,
    interval_coverage,
    log_predictive_density,
    negative_log_likelihood,
    reliability,
    rmse,
)
from pyro_ssbnn.analysis.classification import accuracy, classification_scores, ood_auroc
from pyro_ssbnn.analysis.diagnostics import Check, Report, diagnose
from pyro_ssbnn.analysis.error_control import error_control_summary
from pyro_ssbnn.analysis.inclusion import (
    inclusion_summary,
    layer_summary,
    predictor_norms,
    slab_norms,
)
from pyro_ssbnn.analysis.inference_data import to_arviz
from pyro_ssbnn.analysis.latency import dense_and_pruned, measure_latency, pruning_latency
from pyro_ssbnn.analysis.netcdf import read_netcdf, write_netcdf
from pyro_ssbnn.analysis.scales import slab_scale_quantiles

__all__ = [
    "Check",
    "Reliability",
    "Report",
    "accuracy",
    "brier_score",
    "classification_scores",
    "dense_and_pruned",
    "diagnose",
    "error_control_summary",
    "expected_calibration_error",
    "inclusion_summary",
    "interval_coverage",
    "layer_summary",
    "log_predictive_density",
    "measure_latency",
    "negative_log_likelihood",
    "ood_auroc",
    "predictor_norms",
    "pruning_latency",
    "read_netcdf",
    "reliability",
    "rmse",
    "slab_norms",
    "slab_scale_quantiles",
    "to_arviz",
    "write_netcdf",
]
