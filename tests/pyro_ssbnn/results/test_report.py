"""The report: everything a run holds, in a file that asks for nothing else; names from data stay text."""

import re
import shutil
import subprocess
from copy import deepcopy
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from pyro_ssbnn import MLP, SSIG, CoupledGuide, GaussianLikelihood
from pyro_ssbnn.analysis import Check, Report, partial_dependence
from pyro_ssbnn.display import plain
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.results import tips
from pyro_ssbnn.results.figures import drawn
from pyro_ssbnn.results.findings import findings
from pyro_ssbnn.results.page import page
from pyro_ssbnn.results.predictions import labels_of
from pyro_ssbnn.results.sections import _credible_sets
from pyro_ssbnn.sklearn import SparseBNNClassifier, SparseBNNRegressor

pytestmark = pytest.mark.filterwarnings("ignore:collapse:pyro_ssbnn.errors.CollapseWarning")

N = 80
EMPTY = {"meta", "link", "img", "br", "input", "hr"}
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Elements with their attributes, checked to be closed in order; text by the element that holds it."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def frame():
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            HOSTILE: generator.normal(5, 2, N),
            "town": generator.choice(["Aix & Co", "<b>Brest", "Caen"], N),
            "a$b$c": np.where(np.arange(N) % 9, generator.normal(5, 2, N), np.nan),
            "unit": "mm",
        }
    )


@pytest.fixture(scope="module")
def target(frame):
    return 1e4 + 500 * frame[HOSTILE].to_numpy() + 300 * (frame["town"] == "Caen").to_numpy()


@pytest.fixture(scope="module")
def results(frame, target, quick):
    model = SparseBNNRegressor(predictor_inclusion=0.9, **quick).fit(frame[:60], target[:60])
    held_out = (frame[60:], target[60:])
    found = model.results(frame[:60], target[:60], held_out=held_out, checks=False)
    checks = Report((Check("convergence", "warning", "It still rises.", "Train longer."),))
    return replace(found, checks=checks)


@pytest.fixture(scope="module")
def html(results):
    return page(results)


def test_holds_every_section_with_the_numbers_of_the_fit(results, html):
    found = Page(html)
    names = {attributes.get("id") for attributes in found.all("section")}
    wanted = "data trust predictors effects predictions network training origin"
    assert set(wanted.split()) == names
    links = {attributes["href"] for attributes in found.all("a")}
    assert {f"#{name}" for name in names} <= links
    assert plain(results.metrics["full"]["rmse"]) in found.words
    for words in (
        "It still rises. Train longer.",
        "1 of 1 checks warns",
        "lasso",
        "the same in all training rows",
        "missing values, filled in within the fit",
        "SparseBNNRegressor(",
        "arXiv 2308.09104",
        *findings(results),
    ):
        assert words in found.text
    for name, inclusion in results.predictors["inclusion"].items():
        assert re.search(rf"{re.escape(name)}\s+{re.escape(f'{inclusion:.3g}')[:3]}", found.text)


def test_asks_for_nothing_and_runs_nothing(html):
    found = Page(html)
    assert not found.all("script")
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action", "data", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"url\((?!#)|@import|https?:", html)
    assert len(html) < 3_000_000


def test_names_from_data_stay_text(html):
    assert HOSTILE not in html
    found = Page(html)
    assert HOSTILE in found.text
    assert "<b>Brest" in found.text
    assert "a$b$c" in found.text
    assert not found.all("b")


def test_can_be_heard_and_reached_by_keys(html):
    found = Page(html)
    assert dict(found.elements[0][1]) == {"lang": "en"}
    assert all(len(attributes["aria-label"]) > 30 for attributes in found.all("svg"))
    assert len(found.all("svg")) == len(found.all("figure")) >= 6
    assert {attributes.get("scope") for attributes in found.all("th")} == {"col", "row"}
    assert len(found.all("caption")) == len(found.all("table"))
    regions = [a for a in found.all("div") if a.get("class") == "scroll"]
    assert regions
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in regions)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    pointed = re.findall(r'(?:url\(|href=")#([^)"]+)', html)
    assert set(pointed) <= set(ids)


def told_in(html, name):
    """What is shown where the pointer rests on a figure."""
    figure = html[html.index(f'<figure id="figure-{name}"') :]
    strips = re.findall(r'class="tip"><title>([^<]*)<', figure[: figure.index("</figure>")])
    return [unescape(words) for words in strips]


def test_figures_tell_their_numbers_where_the_pointer_rests(results, html):
    fit, table = results.fit, results.predictors
    gated = table[table["note"] == ""]
    assert sorted(told_in(html, "predictors")) == sorted(
        f"{name}: inclusion {row['inclusion']:.3f}, prior {row['prior_inclusion']:.3f}"
        for name, row in gated.iterrows()
    )
    nodes = told_in(html, "nodes")
    gamma = fit.guide.inclusion()["hidden1"]
    assert {f"node {i}: inclusion {p:.3f}" for i, p in enumerate(gamma) if p > 0.01} <= set(nodes)
    first = table.index[table["selected"]][0]
    x = results.train.x.float()
    effect = partial_dependence(fit.model, fit.guide, x, first, preprocessing=results.preprocessing)
    for words, mean in zip(told_in(html, "effect0"), effect.draws.mean(0), strict=True):
        assert words.startswith(first)
        assert f": mean {plain(mean)}, 90 % band " in words
    assert [words.split(" %")[0] for words in told_in(html, "coverage")] == [
        str(10 * i) for i in range(1, 10)
    ]
    last = f"epoch {fit.history.epoch:g}: ELBO {plain(fit.history.elbo[-1] / fit.num_data)}, "
    assert sum(words.startswith(last) for words in told_in(html, "bound")) == 2


def test_tips_lie_on_what_they_tell_of():
    """Bars of any order; strips that meet half way, and hide nothing of the plot."""

    def draw():
        ax = plt.subplots()[1]
        ax.barh([0, 1], [0.9, 0.2], height=0.8)
        ax.set_yticks([0, 1], [r"b\$", "a"])
        ax.set_ylim(1.6, -0.6)
        return ax

    table = pd.DataFrame({"inclusion": [0.2, 0.9], "prior_inclusion": 0.5}, index=["a", "b$"])
    ax = draw()
    found = tips.of_predictors(ax, table)
    plt.close(ax.figure)
    assert [(tip.low, tip.high, tip.text[:15]) for tip in found] == [
        (-0.5, 0.5, "b$: inclusion 0"),
        (0.5, 1.5, "a: inclusion 0."),
    ]
    plain_one, told = (
        drawn("x", draw, "", "", how).svg for how in (lambda panels: (), lambda p: found)
    )
    without = re.sub(r'\s*<g class="tip">.*?</g>', "", told, flags=re.S)
    assert told.count('<g class="tip"><title>') == 2
    assert without == plain_one
    coverage = tips.of_coverage([0.5, 0.6, 0.9], [0.5, 0.7, 1.0], 100)
    assert np.allclose([tip.low for tip in coverage], [0.45, 0.55, 0.75])
    assert np.allclose([tip.high for tip in coverage], [0.55, 0.75, 1.05])
    assert "50.0 % of rows inside (95 % interval 40.4 to 59.6 %)" in coverage[0].text


def test_figures_are_seen_large_by_a_link_and_back(html):
    found = Page(html)
    links = {a["href"] for a in found.all("a")}
    for figure in found.all("figure"):
        name = figure["id"].removeprefix("figure-")
        assert {f"#figure-{name}", f"#larger-{name}"} <= links
    assert "figure:target {" in html


def test_without_rows_it_says_what_the_fit_alone_can_tell(frame, target, tmp_path, quick):
    names = np.where(target > np.median(target), "ill", HOSTILE)
    model = SparseBNNClassifier(**quick).fit(frame, names)
    model.report(tmp_path / "bare.html")
    found = Page((tmp_path / "bare.html").read_text())
    shown = {attributes.get("id") for attributes in found.all("section")}
    assert "predictions" not in shown
    assert {"data", "predictors", "network", "training"} <= shown
    model.report(tmp_path / "full.html", frame, names, checks=False)
    text = Page((tmp_path / "full.html").read_text()).text
    assert "predicted probability of" in text
    assert "logistic" in text
    with pytest.raises(ConfigurationError, match="X and y"):
        model.report(tmp_path / "bare.html", frame)


def test_findings_say_what_is_open_and_what_failed(results):
    names = list(results.fit.model.description.inputs.names)
    logits = torch.tensor([4.0, 0.3, -5.0])
    guide = deepcopy(results.fit.guide)
    guide.input.logits.data = logits
    guide.gate_logits("linear").data.fill_(-9.0)
    metrics = {**results.metrics, "full": {**results.metrics["full"], "r2": -0.2}}
    metrics["baselines"] = {"mean": {"r2": -0.01}, "lasso": {"r2": 0.5}}
    changed = replace(results, fit=replace(results.fit, guide=guide), metrics=metrics)
    told = findings(changed)
    assert told[0].startswith("2 of 3 predictors are in the network: ")
    assert told[0].count(names[1]) == 1  # either sure or undecided
    assert told[0].endswith(f"; undecided: {names[1]} (0.57).")
    assert told[1].startswith("It explains nothing of the variance of y in the 20 test rows")
    assert "(a lasso: 50 %)" in told[1]
    guide.input.logits.data = torch.full((3,), -9.0)
    assert "No predictor is in the network" in findings(changed)[0]
    assert findings(replace(changed, metrics=None, pruning=None))[1:] == []


def test_a_figure_takes_the_colours_of_its_page():
    def draw():
        ax = plt.subplots()[1]
        ax.plot([0, 1], [0, 1], color="black", label='"<&"')
        ax.legend()
        return ax

    before = plt.get_fignums()
    figure = drawn("one", draw, "a line", 'a "line"')
    assert plt.get_fignums() == before
    assert "#000000" not in figure.svg
    assert "currentColor" in figure.svg
    assert "&lt;&amp;" in figure.svg
    assert 'aria-label="a &quot;line&quot;"' in figure.svg


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_opens_it_without_a_complaint(html, tmp_path, width):
    """Slow: a browser starts. It would complain of a request, too, which the page's own policy forbids."""
    assert "default-src 'none'" in html
    file = tmp_path / "report.html"
    file.write_text(html)
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *(f"--window-size={width},900", "--dump-dom"),
            f"--user-data-dir={tmp_path / 'profile'}",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    assert "Which predictors matter" in done.stdout


def test_sets_that_stand_for_each_other_are_a_table():
    """One of two gates is in, never both; where gates are at their prior, no set says more."""
    net = MLP(2, [2], prior=SSIG(), likelihood=GaussianLikelihood(), input_inclusion=0.5)
    guide = CoupledGuide(net, coupled=["input"])
    results = SimpleNamespace(fit=SimpleNamespace(guide=guide))
    with torch.no_grad():
        guide.input.coupling.copy_(torch.tensor([-60.0, 0.0, 0.0, -60.0]))
    (table,) = _credible_sets(results)
    assert "x1, x2" in str(table)
    with torch.no_grad():
        guide.input.coupling.copy_(torch.tensor([0.0, -60.0, -60.0, -60.0]))
    (said,) = _credible_sets(results)
    assert said.startswith("No set of predictors holds one that matters")


def test_names_that_are_no_classes_are_told():
    assert labels_of(pd.Series(["b", "a", "b"]), ("a", "b")).tolist() == [1, 0, 1]
    with pytest.raises(DataError, match=r"unknown classes \['c'\]; expected \['a', 'b'\]"):
        labels_of(pd.Series(["a", "c"]), ("a", "b"))


def test_predictors_weighed_jointly_stand_beside_the_others(results):
    """Where the law differs, the findings say so; where it does not, they say nothing."""
    names = list(results.fit.model.description.inputs.names)
    own = results.predictors.loc[names, "inclusion"]
    assert "jointly" not in results.predictors
    same = replace(results, joint=pd.DataFrame({"inclusion": own}))
    assert same.predictors.loc[names, "jointly"].tolist() == own.tolist()
    assert "weighed jointly" not in findings(same)[0]
    moved = own.copy()
    moved.iloc[0] = 0.75 - 0.5 * (own.iloc[0] > 0.5)
    other = replace(results, joint=pd.DataFrame({"inclusion": moved}))
    assert f"; weighed jointly: {names[0]} ({moved.iloc[0]:.2f})." in findings(other)[0]
    assert "weighed jointly they share" in page(other)
