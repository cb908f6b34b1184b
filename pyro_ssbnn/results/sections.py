"""The sections of a report; each looks at what there is, and is left out where there is nothing."""

from __future__ import annotations

from pyro_ssbnn.analysis import credible_set_summary, layer_summary, plots
from pyro_ssbnn.display import cell
from pyro_ssbnn.results import tips
from pyro_ssbnn.results.blocks import Block, Code, Gallery, Section, Table, of_frame
from pyro_ssbnn.results.effects import effects
from pyro_ssbnn.results.figures import drawn
from pyro_ssbnn.results.quality import predictions
from pyro_ssbnn.results.results import Results

__all__ = ["sections"]

_TOP = 25  # predictors in a figure, and rows of a table that is open
_PREDICTORS = {
    "": "predictor",
    "inclusion": "inclusion",
    "jointly": "weighed jointly",
    "lowest": "lowest",
    "highest": "highest",
    "prior_inclusion": "prior",
    "log_bayes_factor": "log Bayes factor",
    "nonlinear": "nonlinear",
    "linear": "linear",
    "effect": "linear effect",
    "norm": "norm of weights",
    "selected": "selected",
    "note": "note",
}
_JOINTLY = (
    " These gates are independent, so that of several predictors that say the same one is sure to be in; weighed"
    " jointly they share their probability. Quote that."
)
_LAYERS = {
    "": "layer",
    "nodes": "nodes",
    "active": "active",
    "fewest_active": "fewest",
    "most_active": "most",
    "expected_active": "expected",
    "sd_active": "sd",
    "prior_expected": "prior expected",
}
_CITATION = (
    "S. Jantre, S. Bhattacharya and T. Maiti, Spike-and-slab shrinkage priors for structurally sparse Bayesian neural"
    " networks, IEEE Transactions on Neural Networks and Learning Systems 36(6), 2025, arXiv 2308.09104."
)


def sections(results: Results) -> list[Section]:
    """All there is to report, in the order in which it should be read."""
    made = [
        Section(name, title, make(results))
        for name, title, make in (
            ("data", "Data", _data),
            ("trust", "Can it be trusted?", _trust),
            ("predictors", "Which predictors matter", _predictors),
            ("effects", "What they do", effects),
            ("predictions", "How well it predicts", predictions),
            ("network", "The network before and after pruning", _network),
            ("training", "How it was trained", _training),
            ("speed", "How fast it is", _speed),
            ("origin", "How this was made", _origin),
        )
    ]
    return [section for section in made if section.blocks]


def _data(results: Results) -> list[Block]:
    prepared, inputs = results.preprocessing, results.fit.model.description.inputs
    rows = [
        ("target", f"{prepared.target_name} ({prepared.task})"),
        ("training rows", cell(results.fit.num_data)),
        ("predictors, before selection", cell(inputs.size)),
    ]
    if results.train is not None:
        rows.append(("test rows", cell(0 if results.test is None else results.test.total)))
    if prepared.class_names:
        rows.append(("classes", ", ".join(prepared.class_names)))
    found: list[Block] = [Table("What the model was given", ["", ""], rows, words=(0, 1))]
    if prepared.notes:
        notes = [note.split(": ", 1) for note in prepared.notes]
        found.append(Table("What was done with columns", ["what", "columns"], notes, words=(0, 1)))
    return found


def _trust(results: Results) -> list[Block]:
    checks = results.checks
    if checks is None:
        return []
    number = len(checks.warnings)
    told = (
        f"{number} of {len(checks)} checks warn{'s' if number == 1 else ''}: answer that before you trust the fit."
        if number
        else f"None of {len(checks)} checks warns. Notes are for the reader."
    )
    order = {"warning": 0, "note": 1, "ok": 2}
    rows = [
        (c.name, c.verdict, f"{c.finding} {c.advice}".strip())
        for c in sorted(checks, key=lambda c: order[c.verdict])
    ]
    return [
        told,
        Table("Checks", ["check", "verdict", "what was seen, and what to do"], rows, (0, 1, 2)),
    ]


def _predictors(results: Results) -> list[Block]:
    table, guide = results.predictors, results.fit.guide
    inputs = guide.description.inputs
    if not inputs.gated:
        return []
    words = (0, [name for name in _PREDICTORS if not name or name in table].index("note"))
    inside = table[table["note"] == ""]
    first = inside.index[0]
    told = ", ".join(f"{name} {p:.2f}" for name, p in inside["inclusion"].head(5).items())
    figure = drawn(
        "predictors",
        lambda: plots.plot_predictor_inclusion(guide, top=_TOP),
        "Posterior probability that a predictor is in the network, against the threshold and the prior.",
        f"Bars of inclusion probabilities of {len(inside)} predictors, the highest {first}: {told}.",
        lambda panels: tips.of_predictors(panels[0], table),
    )
    found: list[Block] = [
        "Inclusion is the posterior probability that a predictor is in the network; the log Bayes factor is what the"
        " data add to the prior odds (natural logarithm; 3 is strong). Predictors above one half are selected."
        + _JOINTLY
        * ("jointly" in table),
        Gallery([figure]),
        of_frame("Predictors, likeliest first", table.head(_TOP), _PREDICTORS, words=words),
    ]
    if len(table) > _TOP:
        caption = f"The other {len(table) - _TOP} predictors"
        rest = table.iloc[_TOP:]
        found.append(of_frame(caption, rest, _PREDICTORS, words, folded=True))
    return [*found, *_credible_sets(results)]


def _credible_sets(results: Results) -> list[Block]:
    guide = results.fit.guide
    if guide.description.inputs.name not in getattr(guide, "coupled", ()):
        return []
    table = credible_set_summary(guide)
    if table.empty:
        return ["No set of predictors holds one that matters with a probability of 95 %."]
    table = table.assign(members=[", ".join(names) for names in table["members"]])
    headers = {
        "": "one of",
        "inclusion": "inclusion of one",
        "prior_inclusion": "under the prior",
        "log_bayes_factor": "log Bayes factor",
    }
    caption = (
        "Credible sets: one predictor at least of each is in, with a probability of 95 % or more"
    )
    return [of_frame(caption, table.set_index("members").head(_TOP), headers)]


def _network(results: Results) -> list[Block]:
    guide = results.fit.best.guide
    description = guide.description
    found: list[Block] = []
    if description.gated_layers:
        told = [
            f"{g.name} {int((guide.inclusion()[g.name] > 0.5).sum())} of {g.size}"
            for g in description.gated_layers
        ]
        figure = drawn(
            "nodes",
            lambda: plots.plot_inclusion(guide),
            "Inclusion probability of each hidden node.",
            f"Inclusion of hidden nodes, layer by layer; active: {', '.join(told)}.",
            tips.of_nodes,
        )
        found.append(Gallery([figure]))
    if description.gate_groups:
        caption = (
            "Active: inclusion above one half; expected, sd: of their number under the posterior"
        )
        found.append(of_frame(caption, layer_summary(results.fit.guide), _LAYERS))
    if results.pruning is not None:
        rows = [
            (
                str(name),
                *(
                    f"{row[what]:,.0f} → {row[f'{what}_kept']:,.0f}"
                    for what in ("nodes", "weights", "multiply_adds")
                ),
            )
            for name, row in results.pruning.iterrows()
        ]
        headers = ["layer", "nodes", "weights", "multiply-adds"]
        found.append(Table("Pruning, before → after; multiply-adds a row", headers, rows))
    return found


def _training(results: Results) -> list[Block]:
    fit = results.fit.best
    history = fit.history
    if not len(history):
        return []
    last = history.elbo[-1] / fit.num_data
    figures = [
        drawn(
            "bound",
            lambda: plots.plot_elbo(history, num_data=fit.num_data),
            "The bound that was maximised, and the two costs it is made of, by epoch.",
            f"Trace of the bound over {history.epoch:g} epochs, at the end {last:.4g} nats per observation.",
            lambda panels: tips.of_bound(history, fit.num_data),
        )
    ]
    if history.inclusion:
        figures.append(
            drawn(
                "history",
                lambda: plots.plot_inclusion_history(history),
                "Inclusion probabilities as they were learnt.",
                "Number of active nodes and predictors, and each one's inclusion probability, by epoch.",
            )
        )
    told = f"{history.epoch:g} epochs in {history.seconds[-1]:,.0f} seconds."
    return [told, Gallery(figures)]


def _speed(results: Results) -> list[Block]:
    table = results.latency
    if table is None or table.empty:
        return []
    figure = drawn(
        "latency",
        lambda: plots.plot_latency(table),
        "Median time of a forward pass; bars are the 10 and 90 % quantiles.",
        f"Times of {', '.join(table['network'].unique())} against the rows of a batch.",
    )
    headers = {
        "": "network",
        "batch_size": "rows",
        "median_ms": "median, ms",
        "q10_ms": "10 %",
        "q90_ms": "90 %",
        "speedup": "times as fast",
    }
    return [Gallery([figure]), of_frame("Forward pass", table.set_index("network"), headers)]


def _origin(results: Results) -> list[Block]:
    found: list[Block] = []
    if results.command:
        found += ["The exact command:", Code(results.command)]
    if results.facts:
        found.append(Table("Origin", ["", ""], list(results.facts.items()), words=(0, 1)))
    return [*found, "Please cite the paper whose models these are:", Code(_CITATION)]
