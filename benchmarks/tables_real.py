"""Real tables: scikit-learn's embedded ones, and the five UCI sets with their published splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import train_test_split
from tables_problems import Table

EMBEDDED = {"diabetes": (load_diabetes, "real"), "breast-cancer": (load_breast_cancer, "binary")}
UCI = ("concrete", "energy", "kin8nm", "power-plant", "yacht")


def draw(name: str, seed: int, uci: Path | None) -> Table:
    """Split number ``seed`` of a UCI set, or a random split of an embedded table, a fifth of the rows for the test."""
    if name in UCI:
        return _split(name, seed, uci)
    load, kind = EMBEDDED[name]
    x, y = load(return_X_y=True)
    labels = y if kind == "binary" else None
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, random_state=seed, stratify=labels)
    return Table(x, y.astype(float), x_test, y_test.astype(float), kind, None)


def _split(name: str, number: int, uci: Path | None) -> Table:
    from pyro_ssbnn.data import read_uci_split

    if uci is None:
        raise SystemExit(f"{name}: --data DIR says where the UCI folders are")
    train, test = read_uci_split(uci / name, number)
    arrays = (np.asarray(v, dtype=float) for v in (train.x, train.y, test.x, test.y))
    return Table(*arrays, "real", None)
