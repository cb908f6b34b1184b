"""What both estimators share: from a table to a fitted network, and from new rows to its predictions."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import narwhals as nw
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from torch import Tensor
from typing_extensions import Self

from pyro_ssbnn.analysis import Effect, diagnose, partial_dependence
from pyro_ssbnn.data import ColumnChoice, Encoded, Preprocessing, Table, Task
from pyro_ssbnn.data.column import Column
from pyro_ssbnn.data.own_units import check_transform, own_units
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference import Fit, Mixture, TrainingOptions, fit, fit_several
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models import MLP
from pyro_ssbnn.posterior import PredictiveSummary, draw_posterior
from pyro_ssbnn.posterior.ensemble import posterior_ensemble
from pyro_ssbnn.priors import BetaInclusion, Prior, from_config
from pyro_ssbnn.results import Results
from pyro_ssbnn.results.page import write_report
from pyro_ssbnn.results.predictors import predictor_table
from pyro_ssbnn.results.scores import scores
from pyro_ssbnn.selection import prune
from pyro_ssbnn.sklearn.saving import load_estimator, save_estimator

__all__ = ["SparseBNN"]

_ROWS = 10_000  # to predict at together


class SparseBNN(SelectorMixin, BaseEstimator):
    """A gated perceptron with the description of its table; see the two estimators for parameters and attributes."""

    def __init__(
        self,
        *,
        hidden: tuple[int, ...] = (64, 32),
        activation: str = "silu",
        prior: str | Prior = "ss-ghs",
        inclusion: float | BetaInclusion | None = None,
        select_predictors: bool = True,
        predictor_inclusion: float | BetaInclusion | None = None,
        linear: bool = False,
        likelihood: str | Likelihood | None = None,
        categorical: tuple[str, ...] = (),
        date: tuple[str, ...] = (),
        missing: str = "impute",
        transform_target: str | None = None,
        epochs: int | None = None,
        options: TrainingOptions | dict[str, Any] | None = None,
        num_draws: int = 200,
        fits: int = 1,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.prior = prior
        self.inclusion = inclusion
        self.select_predictors = select_predictors
        self.predictor_inclusion = predictor_inclusion
        self.linear = linear
        self.likelihood = likelihood
        self.categorical = categorical
        self.date = date
        self.missing = missing
        self.transform_target = transform_target
        self.epochs = epochs
        self.options = options
        self.num_draws = num_draws
        self.fits = fits
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _train(self, X: Any, y: NDArray[Any], task: Task, sample_weight: ArrayLike | None) -> Self:
        """Learn the table, make the network, fit it.

        :param X: a table whose rows are checked.
        :param y: ``[N]`` numbers, or codes of classes.
        """
        table = self._table(X)
        options = self._training_options()
        choice = ColumnChoice(
            categorical=self._names(self.categorical),
            date=self._names(self.date),
            missing=self.missing,
        )
        target = Column("y", "number", np.array(y, dtype=np.float64), task != "regression")
        transform = self.transform_target or "none"
        prepared = Preprocessing.fit(table, target, task, choice, transform=transform)
        targets = torch.from_numpy(target.values)
        likelihood = self._likelihood(targets)
        check_transform(likelihood, prepared.target)
        scaled = prepared.target.transform(targets)
        if task == "classification" and sample_weight is None:
            scaled = scaled.long()
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
            likelihood = replace(likelihood, weighted=True)
            scaled = torch.column_stack(
                [scaled, torch.from_numpy(np.array(weights, dtype=np.float64))]
            )
        network = self._network(prepared, likelihood)
        x = prepared.encode(table)
        self.preprocessing_ = prepared
        self.result_: Fit | Mixture
        if self.fits == 1:
            self.result_ = fit(network, x, scaled, options, progress=False)
        else:
            several: dict[str, Any] = {"fits": self.fits, "n_jobs": self.n_jobs}
            self.result_ = fit_several(network, x, scaled, options, progress=False, **several)
        return self

    def _network(self, prepared: Preprocessing, likelihood: Likelihood) -> MLP:
        names = prepared.feature_names
        inclusion = self.predictor_inclusion
        if inclusion is not None and not self.select_predictors:
            raise ConfigurationError(
                "predictor_inclusion needs select_predictors=True; got select_predictors=False."
            )
        if self.select_predictors and inclusion is None:
            inclusion = 1 / max(len(names), 2)
        return MLP(
            len(names),
            list(self.hidden),
            prior=self._prior(),
            likelihood=likelihood,
            activation=self.activation,
            input_inclusion=inclusion,
            input_names=names,
            input_widths=prepared.widths,
            linear=self.linear,
        )

    def _prior(self) -> Prior:
        if isinstance(self.prior, str):
            given = {} if self.inclusion is None else {"inclusion": self.inclusion}
            return from_config({"name": self.prior, **given})
        if self.inclusion is not None:
            raise ConfigurationError(
                "inclusion goes with the name of a prior; give it to the prior itself."
            )
        return self.prior

    def _likelihood(self, y: Tensor) -> Likelihood:
        raise NotImplementedError

    def _training_options(self) -> TrainingOptions:
        given = self.options
        options = given if isinstance(given, TrainingOptions) else TrainingOptions(**(given or {}))
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31)
        options = replace(options, seed=int(seed))
        return options if self.epochs is None else replace(options, epochs=self.epochs)

    def _names(self, columns: tuple[Any, ...]) -> tuple[str, ...]:
        """Columns by name, where they are given by position."""
        names = self._column_names()
        given = (columns,) if isinstance(columns, str) else columns
        return tuple(c if isinstance(c, str) else names[c] for c in given)

    def _column_names(self) -> list[str]:
        known = getattr(self, "feature_names_in_", None)
        return [f"x{i}" for i in range(self.n_features_in_)] if known is None else list(known)

    def _checked(self, X: Any, reset: bool = False) -> Any:
        """A frame as it is, or an array ``[N, p]`` that may lack values."""
        if _is_frame(X):
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

    def _table(self, X: Any) -> Table:
        return (
            Table.of(X, name="X")
            if _is_frame(X)
            else Table.of(X, names=self._column_names(), name="X")
        )

    def _encoded(self, X: Any) -> Tensor:
        check_is_fitted(self)
        checked = self._checked(X)
        return self.preprocessing_.encode(self._table(checked))

    def _fitted(self) -> tuple[Any, Any]:
        """Network and guide in double precision, in which a row's prediction is the same in any company."""
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

    def results(
        self,
        X: Any = None,
        y: ArrayLike | None = None,
        *,
        held_out: tuple[Any, ArrayLike] | None = None,
        checks: bool = True,
    ) -> Results:
        """All there is to say of the fit; the estimator itself keeps no rows, so they are to be given again.

        :param X: the rows that were fitted to, for effects, checks, scores and calibration; without them what the fit
            alone can tell.
        :param y: their targets.
        :param held_out: rows and targets kept from the fit; they are then judged in place of the fitted ones.
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
        _, metrics = scores(result, prepared, train, test, network, self.num_draws)
        report = None
        if checks:
            kept = None if test is None else (test.x, test.y)
            report = diagnose(result, train.x, train.y, held_out=kept, seed=result.options.seed)
        return replace(found, train=train, test=test, metrics=metrics, checks=report)

    def report(
        self,
        path: str | Path,
        X: Any = None,
        y: ArrayLike | None = None,
        *,
        held_out: tuple[Any, ArrayLike] | None = None,
        checks: bool = True,
    ) -> None:
        """Write a report: one HTML file that opens offline; parameters as for :meth:`results`.

        :param path: of the file.
        """
        write_report(self.results(X, y, held_out=held_out, checks=checks), path)

    def effect(self, X: Any, column: str | int, **options: Any) -> Effect:
        """Partial dependence of the mean on a column, in own units, with its posterior.

        :param X: rows ``[N, p]`` whose other columns are averaged over.
        :param column: by name or position.
        :param options: of :func:`~pyro_ssbnn.partial_dependence`.
        """
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

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator into a folder, as safetensors and JSON; nothing in it runs code on loading.

        :raises ConfigurationError: for a prior or likelihood of one's own without a name
            (:func:`pyro_ssbnn.register`).
        """
        check_is_fitted(self)
        save_estimator(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The estimator of a folder that :meth:`save` wrote.

        :raises CheckpointError: for a folder that holds none, or one of another class.
        """
        return cast(Self, load_estimator(cls, Path(path)))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


def _is_frame(X: Any) -> bool:
    if isinstance(X, pd.DataFrame):
        return True
    try:
        nw.from_native(X, eager_only=True)
    except TypeError:
        return False
    return True
