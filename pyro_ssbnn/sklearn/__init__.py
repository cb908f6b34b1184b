"""Estimators for scikit-learn's tools: pipelines, grid searches, cross-validation, selection of columns.

An estimator owns the description of its table, the network and the fit: frames with categories, dates and missing
values go in as they are, predictions come out in the target's own units.
"""

from pyro_ssbnn.sklearn.estimators import SparseBNNClassifier, SparseBNNRegressor

__all__ = ["SparseBNNClassifier", "SparseBNNRegressor"]
