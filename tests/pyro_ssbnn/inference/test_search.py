"""What a run does beside its steps: an ascent's evidence has rows before draws."""

import pytest
import torch

from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, StructuredGuide, TrainingOptions
from pyro_ssbnn.inference import search
from pyro_ssbnn.inference.history import History
from pyro_ssbnn.inference.holding import settled_options
from pyro_ssbnn.inference.minibatches import Minibatches
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.run import Run
from pyro_ssbnn.structure.flow import flip_cost


def search_of(net, guide, x, y, **options):
    """Search of a run that has not begun."""
    options = settled_options(TrainingOptions(**options), net.description, len(x), guide)
    result = Fit(net, guide, options, History(), len(x))
    return Run(result, Minibatches(x, y, options)).search


@pytest.mark.parametrize("rows", [200, 2_000, 20_000])
def test_an_ascent_prefers_rows_to_draws(monkeypatch, rows):
    likelihood = GaussianLikelihood()
    net = MLP(40, [16], prior=SSIG(), likelihood=likelihood, input_inclusion=0.1)
    x, seen = torch.randn(rows, 40), []

    def evidence(model, guide, groups, given, num_data, num_draws):
        seen.append((len(given[0]), num_draws))
        return {}

    monkeypatch.setattr(search, "branch_evidence", evidence)
    own = search_of(net, StructuredGuide(net), x, x[:, 0], screen=False)
    own._evidence()
    [(taken, draws)] = seen
    cost = flip_cost(net.description)
    assert 4 <= draws <= 16
    assert taken == rows or draws == 4
    assert taken * draws * cost <= 2**28 or taken == 512
    assert rows > 200 or (taken, draws) == (200, 16)
