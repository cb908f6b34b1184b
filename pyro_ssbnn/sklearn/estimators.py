"""The regressor and the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length
from torch import Tensor
from typing_extensions import Self

from pyro_ssbnn.data import Task
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    CountLikelihood,
    GaussianLikelihood,
    HeteroscedasticLikelihood,
    Likelihood,
    OrdinalLikelihood,
    likelihood_from_config,
    suggest_likelihood,
)
from pyro_ssbnn.likelihoods.survival import SurvivalLikelihood
from pyro_ssbnn.sklearn.base import SparseBNN

__all__ = ["SparseBNNClassifier", "SparseBNNRegressor"]


class SparseBNNRegressor(RegressorMixin, SparseBNN):
    """A sparse Bayesian network for numbers: measurements, counts, targets with heavy tails.

    X is a frame of any library, with text, dates and missing values as they are (:class:`~pyro_ssbnn.data.Table`), or
    an array. As a selector it keeps the columns that are in the network with a probability above one half.

    :param hidden: widths of the hidden layers before selection; None: (32,) below 2,000 rows, (64, 32) from there.
    :param activation: one of :data:`~pyro_ssbnn.models.ACTIVATIONS`.
    :param prior: of the nodes: a name (``"ss-ig"``, ``"ss-gl"``, ``"ss-ghs"``, ``"gaussian"``, ...) or a prior.
    :param inclusion: prior inclusion probability of a node, with the name of a prior.
    :param select_predictors: whether predictors carry gates.
    :param predictor_inclusion: prior inclusion probability of a predictor, however it acts; None takes one over their
        number. Or a :class:`~pyro_ssbnn.BetaInclusion`, that of each of its gates.
    :param linear: whether every predictor also has a linear term with a gate of its own; ``inclusion_`` then says of
        both, and of the linear effect. None does so where predictors are selected and there are hidden layers: few
        rows then choose a sparse linear model instead of nothing.
    :param likelihood: None for Gaussian noise of unknown variance. Where predictors have missing values and there are
        hidden layers, this variance depends on the predictors: y spreads more where one that matters is missing. Or a
        name such as ``"gaussian"``, ``"student-t"``, ``"heteroscedastic"``, ``"poisson"``, ``"negative-binomial"``;
        ``"count"`` for the one that the counts' spread suggests; or a likelihood. One of counts sees y as it is, all
        others see it standardised.
    :param categorical: columns, by name or position, whose numbers are categories.
    :param date: columns that are dates, also where they are not written as ISO dates.
    :param missing: "impute" missing values of predictors within the fit, or "refuse" them.
    :param transform_target: "log" or "yeo-johnson" where measurements are skewed, under Gaussian or heteroscedastic
        noise; undone in everything that is predicted (:mod:`pyro_ssbnn.data.own_units`).
    :param epochs: passes over the rows. None: 10,000 steps (12,000 where gates are held).
    :param options: further :class:`~pyro_ssbnn.TrainingOptions`, or a dictionary of them; their seed is ignored.
    :param num_draws: posterior draws that predictions average over.
    :param fits: fits of as many seeds, combined by stacking (:func:`~pyro_ssbnn.fit_several`); each costs one fit.
    :param n_jobs: fits at a time, each in a process of its own; None makes one after another.
    :param random_state: seed of the run. A refit gives the same numbers, unless this is None.

    :ivar result_: the :class:`~pyro_ssbnn.Fit`, or :class:`~pyro_ssbnn.Mixture`, of the standardised target.
    :ivar preprocessing_: what was learnt of table and target.
    :ivar inclusion_: one row a predictor.
    :ivar n_features_in_: number of columns of X.
    :ivar feature_names_in_: their names, where X was a frame.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> model = SparseBNNRegressor(hidden=(4,), epochs=2).fit(X, 2 * X[:, 0])
    >>> mean, sd = model.predict(X[:5], return_std=True)
    >>> mean.shape, sd.shape, list(model.inclusion_.index)
    ((5,), (5,), ['x0', 'x1', 'x2'])
    """

    def fit(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit to rows ``[N, p]`` and targets ``[N]``, which must be given.

        :param sample_weight: ``[N]``, not negative: a row of weight w counts as w rows, in the bound.
        :raises DataError: for everything that is wrong with the table, in one message; for files, loaders and streams,
            which are read in pieces: :func:`pyro_ssbnn.fit` takes those.
        """
        checked = self._checked(X, reset=True)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None.")
        target = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        target = column_or_1d(target, warn=True)
        check_consistent_length(checked, target)
        task: Task = (
            "count" if self.likelihood == "count" or _counts(self.likelihood) else "regression"
        )
        return self._train(checked, target, task, sample_weight)

    def predict(
        self, X: Any, return_std: bool = False, quantiles: Sequence[float] | None = None
    ) -> NDArray[Any] | tuple[NDArray[Any], ...]:
        """Predictive means ``[N]``, in the target's units.

        :param return_std: also the standard deviations of the predictive distribution, ``[N]``.
        :param quantiles: also these quantiles of it, ``[Q, N]``.
        :returns: The means, or a tuple of what was asked for.
        """
        found = self._summary(self._encoded(X), () if quantiles is None else tuple(quantiles))
        parts = []
        if return_std:
            if found.variance is None:
                raise ConfigurationError("return_std: this likelihood has no variance.")
            parts.append(found.variance.sqrt().numpy())
        if found.quantiles is not None:
            parts.append(found.quantiles.numpy())
        mean = found.mean.numpy()
        return (mean, *parts) if parts else mean

    def sample_posterior(self, X: Any, num_draws: int = 100, *, seed: int = 0) -> NDArray[Any]:
        """Draws of targets; see :meth:`SparseBNN.sample_posterior`."""
        draws = super().sample_posterior(X, num_draws, seed=seed)
        return self.preprocessing_.inverse(torch.from_numpy(draws)).numpy()

    def _likelihood(self, y: Tensor, uneven: bool) -> Likelihood:
        if self.likelihood is None:
            return HeteroscedasticLikelihood() if uneven else GaussianLikelihood()
        if self.likelihood == "count":
            return suggest_likelihood(y, counts=True).likelihood
        found = _of_name(self.likelihood)
        if (
            found.predicts_classes
            or isinstance(found, SurvivalLikelihood)
            or found.target_columns > 1
        ):
            raise ConfigurationError(
                f"SparseBNNRegressor: likelihood must be one of a single number; got {found}. Classes have"
                " SparseBNNClassifier; times and several targets go through pyro_ssbnn.fit."
            )
        return found


class SparseBNNClassifier(ClassifierMixin, SparseBNN):
    """A sparse Bayesian network for classes of any kind; parameters are those of :class:`SparseBNNRegressor`.

    :param likelihood: None for logistic (two classes) or softmax (more); ``"ordinal"`` for classes in their order.

    :ivar classes_: the classes, sorted.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> y = np.where(X[:, 0] > 0, "ill", "well")
    >>> model = SparseBNNClassifier(hidden=(4,), epochs=2).fit(X, y)
    >>> model.predict_proba(X[:5]).shape, model.classes_.tolist()
    ((5, 2), ['ill', 'well'])
    """

    def fit(
        self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit to rows ``[N, p]`` and classes ``[N]``; see :meth:`SparseBNNRegressor.fit`."""
        checked = self._checked(X, reset=True)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None.")
        target = column_or_1d(y, warn=True)
        target = check_array(target, ensure_2d=False, dtype=None, input_name="y")
        check_classification_targets(target)
        check_consistent_length(checked, target)
        self.classes_, codes = np.unique(target, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                f"SparseBNNClassifier: at least two classes are needed; all y are of the one class"
                f" {str(self.classes_[0])!r}."
            )
        binary = len(self.classes_) == 2 and self.likelihood is None
        return self._train(checked, codes, "binary" if binary else "classification", sample_weight)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Class probabilities ``[N, K]``, averaged over the posterior, in the order of ``classes_``."""
        mean = self._summary(self._encoded(X)).mean.numpy()
        return np.stack([1 - mean, mean], 1) if mean.ndim == 1 else mean

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable classes, ``[N]``."""
        chosen = self.predict_proba(X).argmax(1)
        found: NDArray[Any] = self.classes_[chosen]
        return found

    def _targets(self, y: ArrayLike) -> Tensor:
        given = np.asarray(y)
        unknown = set(np.unique(given)) - set(self.classes_)
        if unknown:
            raise DataError(
                f"SparseBNNClassifier: y holds classes that were not fitted: {sorted(map(str, unknown))[:5]}; known are"
                f" {self.classes_.tolist()[:10]}."
            )
        return torch.from_numpy(np.searchsorted(self.classes_, given))

    def sample_posterior(self, X: Any, num_draws: int = 100, *, seed: int = 0) -> NDArray[Any]:
        """Draws of classes; see :meth:`SparseBNN.sample_posterior`."""
        draws = super().sample_posterior(X, num_draws, seed=seed)
        found: NDArray[Any] = self.classes_[draws.astype(np.int64)]
        return found

    def _likelihood(self, y: Tensor, uneven: bool) -> Likelihood:
        classes = len(self.classes_)
        if self.likelihood is None:
            return BernoulliLikelihood() if classes == 2 else CategoricalLikelihood(classes)
        if self.likelihood == "ordinal":
            return OrdinalLikelihood(classes)
        found = _of_name(self.likelihood)
        if not found.predicts_classes:
            raise ConfigurationError(
                f"SparseBNNClassifier: likelihood must be one of classes; got {found}. Take SparseBNNRegressor."
            )
        return found


def _of_name(likelihood: str | Likelihood) -> Likelihood:
    if isinstance(likelihood, str):
        return likelihood_from_config({"name": likelihood})
    return likelihood


def _counts(likelihood: str | Likelihood | None) -> bool:
    return likelihood is not None and isinstance(_of_name(likelihood), CountLikelihood)
