"""What both estimators share: parameters, and the way from a table to a fitted network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from typing_extensions import Self

from pyro_ssbnn.checks import check_draws
from pyro_ssbnn.data import ColumnChoice, Preprocessing, Task
from pyro_ssbnn.data.column import Column
from pyro_ssbnn.data.own_units import check_transform
from pyro_ssbnn.data.remarks import warn_of_predictors
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference import TrainingOptions, fit, fit_several
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models import MLP, widths_for_rows
from pyro_ssbnn.priors import BetaInclusion, Prior, each_of_two, from_config
from pyro_ssbnn.sklearn.fitted import FittedEstimator, with_weights
from pyro_ssbnn.sklearn.saving import load_estimator, save_estimator

__all__ = ["SparseBNN"]


class SparseBNN(FittedEstimator):
    """A gated perceptron with the description of its table; see the two estimators for parameters and attributes."""

    classes_: NDArray[Any]

    def __init__(
        self,
        *,
        hidden: tuple[int, ...] | None = None,
        activation: str = "silu",
        prior: str | Prior = "ss-ig",
        inclusion: float | BetaInclusion | None = None,
        select_predictors: bool = True,
        predictor_inclusion: float | BetaInclusion | None = None,
        linear: bool | None = None,
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
        check_draws(type(self).__name__, self.num_draws)
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
        given = y if task in ("regression", "count") else self.classes_[y]
        warn_of_predictors(table, prepared.feature_names, given, "y")
        targets = torch.from_numpy(target.values)
        hidden = widths_for_rows(len(targets)) if self.hidden is None else list(self.hidden)
        uneven = bool(hidden) and prepared.has_gaps
        likelihood = self._likelihood(targets, uneven)
        check_transform(likelihood, prepared.target)
        scaled = prepared.target.transform(targets)
        if task == "classification" and sample_weight is None:
            scaled = scaled.long()
        if sample_weight is not None:
            likelihood = replace(likelihood, weighted=True)
            scaled = with_weights(scaled, sample_weight)
        network = self._network(prepared, likelihood, hidden)
        x = prepared.encode(table)
        self.preprocessing_ = prepared
        if self.fits == 1:
            self.result_ = fit(network, x, scaled, options, progress=False)
        else:
            several: dict[str, Any] = {"fits": self.fits, "n_jobs": self.n_jobs}
            self.result_ = fit_several(network, x, scaled, options, progress=False, **several)
        return self

    def _network(self, prepared: Preprocessing, likelihood: Likelihood, hidden: list[int]) -> MLP:
        names = prepared.feature_names
        inclusion = self.predictor_inclusion
        if inclusion is not None and not self.select_predictors:
            raise ConfigurationError(
                "predictor_inclusion needs select_predictors=True; got select_predictors=False."
            )
        if self.select_predictors and inclusion is None:
            inclusion = 1 / max(len(names), 2)
        linear = self.linear
        if linear is None:
            linear = bool(hidden) and self.select_predictors
        if linear and isinstance(inclusion, float):
            inclusion = each_of_two(inclusion)
        return MLP(
            len(names),
            hidden,
            prior=self._prior(),
            likelihood=likelihood,
            activation=self.activation,
            input_inclusion=inclusion,
            input_names=names,
            input_widths=prepared.widths,
            linear=linear,
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

    def _likelihood(self, y: Tensor, uneven: bool) -> Likelihood:
        raise NotImplementedError

    def _training_options(self) -> TrainingOptions:
        given = self.options
        options = given if isinstance(given, TrainingOptions) else TrainingOptions(**(given or {}))
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31)
        options = replace(options, seed=int(seed))
        return options if self.epochs is None else replace(options, epochs=self.epochs)

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
