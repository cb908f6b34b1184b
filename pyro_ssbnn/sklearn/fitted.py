"""What a fitted estimator says of new rows and of itself: predictions, inclusion, effects, reports."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, cast

import narwhals as nw
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyro_ssbnn.analysis import Effect, diagnose, partial_dependence, predictor_law
from pyro_ssbnn.data import Encoded, Preprocessing, Table, TableStream
from pyro_ssbnn.data.own_units import own_units
from pyro_ssbnn.data.remarks import warn_of_new_levels
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.inference import Fit, Mixture
from pyro_ssbnn.posterior import PredictiveSummary, draw_posterior
from pyro_ssbnn.posterior.ensemble import posterior_ensemble
from pyro_ssbnn.results import Results
from pyro_ssbnn.results.page import write_report
from pyro_ssbnn.results.predictors import predictor_table
from pyro_ssbnn.results.scores import scores
from pyro_ssbnn.rows import Source
from pyro_ssbnn.selection import PredictorLaw, prune

__all__ = ["FittedEstimator", "with_weights"]

_ROWS = 10_000  # to predict at together


class FittedEstimator(SelectorMixin, BaseEstimator):
    """An estimator that has learnt a table: ``preprocessing_`` takes its rows to the network of ``result_``."""

    result_: Fit | Mixture
    preprocessing_: Preprocessing
    n_features_in_: int
    num_draws: int

    def _encoded(self, X: Any) -> Tensor:
        check_is_fitted(self)
        table = self._table(self._checked(X))
        found = self.preprocessing_.encode(table)
        warn_of_new_levels(table.name, self.preprocessing_.new_levels(table))
        return found

    def _fitted(self) -> tuple[Any, Any]:
        """Network and guide in double precision, in which a row's prediction is the same in any company."""
        check_is_fitted(self)
        network, guide = deepcopy((self.result_.model, self.result_.guide))
        return network.to(torch.float64), guide.to(torch.float64).cpu()

    def _summary(
        self, x: Tensor, quantiles: tuple[float, ...] = (), y: Tensor | None = None
    ) -> PredictiveSummary:
        network, guide = self._fitted()
        seed = self.result_.options.seed
        ensemble = posterior_ensemble(network, guide, self.num_draws, seed=seed, rows=_ROWS)
        return own_units(ensemble, self.preprocessing_.target).summary(x, y, quantiles)

    def log_density(self, X: Any, y: ArrayLike) -> NDArray[np.float64]:
        """Log predictive density (per unit of the target) or probability of each y, ``[N]``, nats."""
        rows = self._rows(X, y)
        density = cast(Tensor, self._summary(rows.x, y=rows.observed).log_density)
        found: NDArray[np.float64] = density.numpy()
        return found

    def sample_posterior(self, X: Any, num_draws: int = 100, *, seed: int = 0) -> NDArray[Any]:
        """Draw targets from the posterior predictive distribution.

        :param X: rows ``[N, p]``.
        :param num_draws: S.
        :param seed: of the draws.
        :returns: ``[S, N]``, in the target's own units; classes for a classifier.
        """
        network, guide = self._fitted()
        draws = draw_posterior(network, guide, num_draws, x=self._encoded(X), seed=seed)
        return cast(Tensor, draws.predictive).numpy()

    @property
    def inclusion_(self) -> pd.DataFrame:
        """One row a column of X that was looked at: ``inclusion``, its posterior probability of being in the network.

        Beside it ``prior_inclusion``, ``log_bayes_factor``, ``norm`` of its weights, ``selected``, and ``note``, which
        says why a column is closed or was left out; of several fits also ``lowest`` and ``highest`` among them. Without
        gates every predictor is in.
        """
        check_is_fitted(self)
        table = predictor_table(self.result_, self.preprocessing_)
        return table.loc[[name for name in self._column_names() if name in table.index]]

    def predictor_law(
        self, X: Any, y: ArrayLike, *, sample_weight: ArrayLike | None = None, **options: Any
    ) -> PredictorLaw:
        """Weigh sets of predictors jointly around the fit, of several the best.

        :param X: the rows that were fitted to; the estimator itself keeps none.
        :param y: their targets.
        :param sample_weight: their weights, ``[N]``, where the fit had weights.
        :param options: of :func:`~pyro_ssbnn.predictor_law`.
        """
        rows = self._rows(X, y)
        targets = rows.y if sample_weight is None else with_weights(rows.y, sample_weight)
        return predictor_law(self.result_.best, rows.x, targets, **options)

    def results(
        self,
        X: Any = None,
        y: ArrayLike | None = None,
        *,
        held_out: tuple[Any, ArrayLike] | None = None,
        sample_weight: ArrayLike | None = None,
        checks: bool = True,
    ) -> Results:
        """All there is to say of the fit; the estimator itself keeps no rows, so they are to be given again.

        :param X: the rows that were fitted to, for effects, checks, scores and calibration; without them what the fit
            alone can tell.
        :param y: their targets.
        :param held_out: rows and targets kept from the fit; they are then judged in place of the fitted ones.
        :param sample_weight: weights of X, ``[N]``, which the checks of a fit with weights need again.
        :param checks: whether to :func:`~pyro_ssbnn.diagnose`.
        """
        check_is_fitted(self)
        if (X is None) != (y is None) or (X is None and held_out is not None):
            raise ConfigurationError(
                f"{type(self).__name__}: give the rows that were fitted to with their targets, X and y; held_out goes"
                " beside them."
            )
        result, prepared = self.result_, self.preprocessing_
        best = result.best
        pruning = None if best.collapsed else prune(best.model, best.guide)
        found = Results(
            result,
            prepared,
            pruning=None if pruning is None else pruning.report,
            command=repr(self),
            num_draws=self.num_draws,
            facts={"seed": str(result.options.seed), "posterior draws": f"{self.num_draws:,}"},
        )
        if X is None or y is None:
            return found
        train = self._rows(X, y)
        test = None if held_out is None else self._rows(*held_out)
        network = None if pruning is None else pruning.network
        metrics = scores(result, prepared, train, test, network, self.num_draws)
        report = None
        if checks:
            kept = None if test is None else (test.x, test.y)
            fitted_to = train.y
            if result.model.likelihood.weighted != (sample_weight is not None):
                raise ConfigurationError(
                    f"{type(self).__name__}: the checks need the weights that the rows were fitted with, and no others:"
                    f" give sample_weight as it was given to fit, or take checks=False."
                )
            if sample_weight is not None:
                fitted_to = with_weights(train.y, sample_weight)
                kept = None if test is None else (test.x, with_weights(test.y, None))
            report = diagnose(result, train.x, fitted_to, held_out=kept, seed=result.options.seed)
            # The check has weighed the predictors; that takes seconds, and is not done again.
            told = [dict(check.values) for check in report if check.name == "rival predictors"]
            joint = told[0].get("joint") if told else None
            if joint and isinstance(result, Fit):
                found = replace(found, joint=pd.DataFrame({"inclusion": joint}))
        return replace(found, train=train, test=test, metrics=metrics, checks=report)

    def report(
        self,
        path: str | Path,
        X: Any = None,
        y: ArrayLike | None = None,
        *,
        held_out: tuple[Any, ArrayLike] | None = None,
        sample_weight: ArrayLike | None = None,
        checks: bool = True,
    ) -> None:
        """Write a report: one HTML file that opens offline; parameters as for :meth:`results`.

        :param path: of the file.
        """
        found = self.results(X, y, held_out=held_out, sample_weight=sample_weight, checks=checks)
        write_report(found, path)

    def effect(self, X: Any, column: str | int, **options: Any) -> Effect:
        """Partial dependence of the mean on a column, in own units, with its posterior.

        :param X: rows ``[N, p]`` whose other columns are averaged over.
        :param column: by name or position.
        :param options: of :func:`~pyro_ssbnn.partial_dependence`.
        """
        check_is_fitted(self)
        (name,) = self._names((column,))
        result = self.result_
        return partial_dependence(
            result.model,
            result.guide,
            self._encoded(X).float(),
            name,
            preprocessing=self.preprocessing_,
            **options,
        )

    def _rows(self, X: Any, y: ArrayLike) -> Encoded:
        """Rows and targets as the network sees them."""
        observed = self._targets(y)
        x = self._encoded(X)
        check_consistent_length(x, observed)
        return Encoded(x, self.preprocessing_.target.transform(observed), observed)

    def _targets(self, y: ArrayLike) -> Tensor:
        """Targets in own units, or codes of classes, ``[N]``."""
        return torch.from_numpy(np.array(y, dtype=np.float64))

    def _get_support_mask(self) -> NDArray[np.bool_]:
        chosen = self.inclusion_["selected"]
        return np.asarray([bool(chosen.get(name, False)) for name in self._column_names()])

    def _names(self, columns: tuple[Any, ...]) -> tuple[str, ...]:
        """Columns by name, where they are given by position."""
        names = self._column_names()
        given = (columns,) if isinstance(columns, str) else columns
        for c in given:
            if not isinstance(c, str) and not 0 <= c < len(names):
                raise ConfigurationError(
                    f"{type(self).__name__}: there is no column {c!r}; X has {len(names)}, counted from 0."
                )
        return tuple(c if isinstance(c, str) else names[c] for c in given)

    def _column_names(self) -> list[str]:
        known = getattr(self, "feature_names_in_", None)
        return [f"x{i}" for i in range(self.n_features_in_)] if known is None else list(known)

    def _checked(self, X: Any, reset: bool = False) -> Any:
        """A frame as it is, or an array ``[N, p]`` that may lack values."""
        require_in_memory(type(self).__name__, X)
        if _is_frame(X):
            if reset or not self._has_what_is_used(X):
                validate_data(self, X, reset=reset, skip_check_array=True)
            return X
        least = 2 if reset else 1
        return validate_data(
            self,
            X,
            reset=reset,
            dtype=None,
            ensure_all_finite="allow-nan",
            ensure_min_samples=least,
        )

    def _has_what_is_used(self, X: Any) -> bool:
        """Whether a frame has the columns of the fit in their order; those that the network does not use may lack."""
        given = list(X.columns if isinstance(X, pd.DataFrame) else nw.from_native(X).columns)
        needed = {*given, *self.preprocessing_.feature_names}
        known = getattr(self, "feature_names_in_", None)
        return known is not None and given == [name for name in known if name in needed]

    def _table(self, X: Any) -> Table:
        names = None if _is_frame(X) else self._column_names()
        return Table.of(X, names=names, name="X")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


def with_weights(y: Tensor, weights: ArrayLike | None) -> Tensor:
    """Targets beside the weights of their rows, ``[N, 2]``, as a weighted likelihood takes them; None for ones."""
    checked = _check_sample_weight(weights, y, ensure_non_negative=True)
    return torch.column_stack([y.double(), torch.from_numpy(np.array(checked, dtype=np.float64))])


def require_in_memory(owner: str, X: Any) -> None:
    """Raise :class:`DataError`, with the way to go instead, for files, and for rows or frames read in pieces."""
    first = X[0] if isinstance(X, list | tuple) and X else X
    name = type(X).__name__
    if isinstance(first, str | PathLike):
        found = f"{str(first)[:60]!r} names a file"
    elif isinstance(X, TableStream | Source | DataLoader | Dataset):
        found = f"a {name} is read in pieces"
    elif isinstance(nw.from_native(X, pass_through=True), nw.LazyFrame):
        found = f"a {name} of {type(X).__module__.partition('.')[0]} has not been read yet"
    else:
        return
    raise DataError(
        f"{owner}: {found}, and estimators take tables in memory: a frame, or an array. Where there is room, read it"
        " first. Where not, pyro_ssbnn.data.TableStream(files, target=...) makes rows of parquet and text files that"
        " are read in pieces, and pyro_ssbnn.fit(network, rows) takes these, data sets and loaders of torch; the"
        " command line takes the files, pyro-ssbnn fit FILES (docs/large_data.md). Or give a sample of the rows."
    )


def _is_frame(X: Any) -> bool:
    if isinstance(X, pd.DataFrame):
        return True
    try:
        nw.from_native(X, eager_only=True)
    except TypeError:
        return False
    return True
