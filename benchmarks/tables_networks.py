"""Other networks for tables: LassoNet, and a deep ensemble that may take as long as a fit of ours."""

from __future__ import annotations

import copy
import time
import warnings

import numpy as np
import torch
from tables_peers import Answer, Array, bernoulli, log_mean_exp
from tables_problems import Table
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, Poisson

ENSEMBLE_SECONDS = 17.0
"""CPU seconds of an ensemble: what a fit of ours takes, over these problems."""
MEMBERS = 5
PATIENCE = 60
"""Epochs without a better held-out density after which a member stops."""


def lassonet(table: Table, seed: int) -> Answer:
    """LassoNet at its defaults ([100], five folds; ``pip install lassonet``): a point, and the predictors it keeps."""
    from lassonet import LassoNetClassifierCV, LassoNetRegressorCV

    kind = LassoNetClassifierCV if table.kind == "binary" else LassoNetRegressorCV
    model = kind(random_state=seed, torch_seed=seed, verbose=0)
    x, x_test, (shift, scale) = _standardised(table)
    y = table.y.astype(int) if table.kind == "binary" else (table.y - shift) / scale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y)
    selected = set(np.flatnonzero(np.asarray(model.best_selected_)).tolist())
    if table.kind == "binary":
        p = model.predict_proba(x_test)[:, 1].clip(1e-3, 1 - 1e-3)
        return Answer(p, bernoulli(p, table.y_test), selected)
    return Answer(shift + scale * np.ravel(model.predict(x_test)), None, selected)


def ensemble(table: Table, seed: int) -> Answer:
    """Five networks [64, 32] that give mean and variance (Lakshminarayanan et al., 2017).

    Adam at 0.001, minibatches of 64; a member stops on a fifth of the rows, or after a fifth of ``ENSEMBLE_SECONDS``.
    """
    x, x_test, (shift, scale) = _standardised(table)
    if table.kind != "real":
        shift, scale = 0.0, 1.0
    rows, targets, fresh = (
        torch.from_numpy(v).float() for v in (x, (table.y - shift) / scale, x_test)
    )
    members = [
        _member(rows, targets, table.kind, 1000 * seed + member) for member in range(MEMBERS)
    ]
    aim = torch.from_numpy((table.y_test - shift) / scale).float()
    with torch.no_grad():
        laws = [_law(network(fresh), table.kind) for network in members]
        mean = torch.stack([law.mean for law in laws]).mean(0).double().numpy()
        density = torch.stack([law.log_prob(aim) for law in laws]).double().numpy()
    return Answer(shift + scale * mean, log_mean_exp(density) - np.log(scale))


def _standardised(table: Table) -> tuple[Array, Array, tuple[float, float]]:
    center, spread = table.x.mean(0), table.x.std(0)
    moments = float(table.y.mean()), float(table.y.std())
    return (table.x - center) / spread, (table.x_test - center) / spread, moments


def _member(x: Tensor, y: Tensor, kind: str, seed: int) -> nn.Module:
    """One network, as it was when the held-out fifth liked it best."""
    torch.manual_seed(seed)
    outputs = 2 if kind == "real" else 1
    network = nn.Sequential(
        nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    order = torch.randperm(len(x))
    held, rows = order[: len(x) // 5], order[len(x) // 5 :]
    best, state, waited = -np.inf, copy.deepcopy(network.state_dict()), 0
    end = time.process_time() + ENSEMBLE_SECONDS / MEMBERS
    while time.process_time() < end and waited < PATIENCE:
        for batch in rows[torch.randperm(len(rows))].split(64):
            optimizer.zero_grad()
            (-_law(network(x[batch]), kind).log_prob(y[batch]).mean()).backward()
            optimizer.step()
        with torch.no_grad():
            density = float(_law(network(x[held]), kind).log_prob(y[held]).mean())
        waited += 1
        if density > best:
            best, state, waited = density, copy.deepcopy(network.state_dict()), 0
    network.load_state_dict(state)
    return network


def _law(output: Tensor, kind: str) -> torch.distributions.Distribution:
    """What a network says about a row: Normal with its own variance, Bernoulli or Poisson."""
    if kind == "real":
        return Normal(output[:, 0], nn.functional.softplus(output[:, 1]) + 1e-3)
    if kind == "binary":
        return Bernoulli(logits=output[:, 0])
    return Poisson(output[:, 0].clamp(max=10).exp())
