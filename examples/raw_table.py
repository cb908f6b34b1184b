"""A raw table: categories, dates and missing values as they are, a search over priors, a report."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, train_test_split

import pyro_ssbnn as ss

rng, n = np.random.default_rng(0), 400
frame = pd.DataFrame({f"idle{i}": rng.normal(size=n) for i in range(6)})
frame["area"] = rng.uniform(20, 150, n)
frame["town"] = rng.choice(["Aix", "Brest", "Caen", "Dijon"], n)
frame["sold"] = pd.date_range("2019-01-01", periods=n, freq="3D")
price = 900 * frame["area"] * (1 + 0.4 * (frame["town"] == "Aix")) + rng.normal(0, 5_000, n)
frame.loc[rng.random(n) < 0.1, "area"] = np.nan  # as tables come

X, X_test, y, y_test = train_test_split(frame, price, test_size=0.25, random_state=0)
estimator = ss.sklearn.SparseBNNRegressor(hidden=(16,), epochs=100)
search = GridSearchCV(estimator, {"prior": ["ss-ghs", "ss-gl"]}, cv=2)
model = search.fit(X, y).best_estimator_
print(model.inclusion_[["inclusion", "selected"]])  # one row a column; a category is one predictor
print(model.effect(X, "town").table())  # posterior mean and band, in own units
mean, sd = model.predict(X_test, return_std=True)
model.report("report.html", X, y, held_out=(X_test, y_test))

ss.plots.plot_effect(model.effect(X, "area"))
plt.savefig("raw_table.png", bbox_inches="tight")
