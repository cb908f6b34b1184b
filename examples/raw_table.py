"""From a raw table to an answer: categories, dates and missing values as they are, a search over priors, a report."""

import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, train_test_split

from pyro_ssbnn.sklearn import SparseBNNRegressor

rng, n = np.random.default_rng(0), 400
frame = pd.DataFrame({f"idle{i}": rng.normal(size=n) for i in range(6)})
frame["area"] = rng.uniform(20, 150, n)
frame["town"] = rng.choice(["Aix", "Brest", "Caen", "Dijon"], n)
frame["sold"] = pd.date_range("2019-01-01", periods=n, freq="3D")
price = 900 * frame["area"] * (1 + 0.4 * (frame["town"] == "Aix")) + rng.normal(0, 5_000, n)
frame.loc[rng.random(n) < 0.1, "area"] = np.nan  # as tables come

X, X_test, y, y_test = train_test_split(frame, price, test_size=0.25, random_state=0)
search = GridSearchCV(
    SparseBNNRegressor(hidden=(16,), epochs=300), {"prior": ["ss-ghs", "ss-gl"]}, cv=2
)
model = search.fit(X, y).best_estimator_
print(model.inclusion_)  # one row a column; a category is one predictor
print(model.effect(X, "area").table())  # posterior mean and band, in own units
print(model.effect(X, "town").table())
mean, sd = model.predict(X_test, return_std=True)
model.report("report.html", X, y, held_out=(X_test, y_test))
