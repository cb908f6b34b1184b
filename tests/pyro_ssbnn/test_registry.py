"""Names in files: each has one owner, and a class without one can do everything but be saved."""

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import pyro
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CheckpointError, CollapseWarning, ConfigurationError
from pyro_ssbnn.inference.shrinking import LiveNetwork
from pyro_ssbnn.likelihoods import likelihood_from_config
from pyro_ssbnn.models import MLP, network_from_config
from pyro_ssbnn.priors import from_config
from pyro_ssbnn.registry import name_of

PAGE = Path(__file__).parents[2] / "docs" / "own_network.md"
X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, 0]
# High rates and a cheap prior: nodes leave within a few epochs.
LOSES_NODES = ss.TrainingOptions(epochs=14, batch_size=20, gate_rate=0.3, kl_warmup=0.0)


@dataclass(frozen=True)
class QuietGHS(ss.SSGHS):
    """Has no name of its own."""


class HeavyTails(ss.GaussianLikelihood):
    """Has no name of its own, and is no direct child of Likelihood."""

    def distribution(self, f, latents):
        return pyro.distributions.StudentT(4.0, f.squeeze(-1), latents["noise.variance"].sqrt())


class QuietGuide(ss.StructuredGuide):
    """Has no name of its own, an option, and a parameter of a node each."""

    def __init__(self, model, *, shift=0.0, **options):
        super().__init__(model, **options)
        self.shift = shift
        self.hidden1.extra = torch.nn.Parameter(
            torch.arange(float(self.description["hidden1"].size))
        )

    def to_config(self):
        return {**super().to_config(), "shift": self.shift}

    def parameter_groups(self):
        kinds = super().parameter_groups()
        kinds["latents"].append(self.hidden1.extra)
        return kinds


class QuietMLP(MLP):
    """Has no name of its own."""


def net(prior=None, likelihood=None, kind=MLP, width=12):
    prior, likelihood = prior or ss.SSIG(inclusion=0.01), likelihood or ss.GaussianLikelihood()
    return kind(4, [width], prior=prior, likelihood=likelihood, activation="tanh")


def shrunk(model, guide=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        result = ss.fit(model, X, Y, LOSES_NODES, guide=guide, progress=False)
    assert result.history.removed
    return result


class TestNames:
    def test_a_subclass_is_not_taken_for_its_parent(self):
        prior = ss.SSGHS(inclusion=0.2)
        assert type(from_config(prior.to_config())) is ss.SSGHS
        assert (
            type(likelihood_from_config(ss.GaussianLikelihood().to_config()))
            is ss.GaussianLikelihood
        )

    def test_a_second_owner_is_refused_and_a_cell_may_be_run_again(self):
        def cell(value):
            @ss.register("of-a-cell")
            @dataclass(frozen=True)
            class Mine(ss.SSIG):
                scale: float = value

            return Mine

        first, second = cell(1.0), cell(2.0)
        assert from_config({"name": "of-a-cell"}).scale == 2.0
        assert (
            name_of(first) == name_of(second) == "of-a-cell"
        )  # objects of before can still be saved
        for name in ("of-a-cell", "ss-ghs"):
            with pytest.raises(
                ConfigurationError, match=rf"prior name '{name}' belongs to .*; give"
            ):
                ss.register(name)(QuietGHS)
        with pytest.raises(ConfigurationError, match="no name of its own"):
            name_of(QuietGHS)

    def test_families_have_names_of_their_own(self):
        assert ss.Gaussian().name == ss.GaussianLikelihood().name == "gaussian"

    def test_other_classes_are_refused(self):
        with pytest.raises(ConfigurationError, match="is no prior, likelihood, guide or network"):
            ss.register("int")(int)

    def test_an_unknown_name_tells_the_module_and_imports_nothing(self):
        record = {"name": "theirs", "module": "antigravity"}
        with pytest.raises(
            ConfigurationError,
            match=r"prior: expected one of \[.*'ss-ghs'.*antigravity: import that",
        ):
            from_config(record)
        with pytest.raises(
            ConfigurationError, match=r"network: expected one of.*'theirs'.*register"
        ):
            network_from_config({"network": "theirs"})


class TestWithoutAName:
    """Fitted through removals, predicted with, pruned; refused only by files."""

    @pytest.mark.parametrize(
        "model",
        [net(QuietGHS(inclusion=0.01)), net(likelihood=HeavyTails()), net(kind=QuietMLP)],
        ids=["prior", "likelihood", "network"],
    )
    def test_everything_but_a_file(self, model, tmp_path):
        result = shrunk(model)
        ss.predict(model, result.guide, X, num_draws=2)
        nodes = ss.select(result.guide.inclusion(), nodes=2)
        ss.prune(model, result.guide, nodes)
        with pytest.raises(ConfigurationError, match=r"no name of its own.*@pyro_ssbnn.register"):
            ss.save_fit(result, tmp_path / "fit.safetensors")
        assert list(tmp_path.iterdir()) == []

    def test_a_guide(self, tmp_path):
        model = net()
        result = shrunk(model, QuietGuide(model, shift=2.0))
        assert type(result.guide) is QuietGuide
        with pytest.raises(
            ConfigurationError, match=r"the guide .*QuietGuide has no name of its own"
        ):
            ss.save_fit(result, tmp_path / "fit.safetensors")

    def test_narrowing_keeps_objects_classes_options_and_cuts_parameters(self):
        model = net(QuietGHS(inclusion=0.2), HeavyTails(), QuietMLP)
        live = LiveNetwork(model, QuietGuide(model, shift=2.0, hard=False))
        live.close({"hidden1": [0, 5]})
        live.narrow()
        assert type(live.model) is QuietMLP
        assert type(live.guide) is QuietGuide
        assert live.model.prior is model.prior
        assert live.model.likelihood is model.likelihood
        assert all(
            g.prior in (model.prior, model.output_prior) for g in live.model.description.groups
        )
        assert (live.guide.shift, live.guide.hard) == (2.0, False)
        kept = [float(j) for j in range(12) if j not in (0, 5)]
        assert live.guide.hidden1.extra.tolist() == kept
        assert model.description["hidden1"].size == 12  # the whole network stays as it was

    def test_a_pruned_network_of_images(self, tmp_path):
        class QuietLeNet(ss.LeNet):
            pass

        model = QuietLeNet(
            (1, 8, 8),
            (3,),
            (4,),
            prior=ss.SSIG(),
            likelihood=ss.CategoricalLikelihood(2),
            kernel_size=3,
        )
        compact = ss.prune(model, ss.StructuredGuide(model)).network
        with pytest.raises(
            ConfigurationError, match=r"network .*QuietLeNet has no name of its own"
        ):
            ss.save_compact(compact, tmp_path / "net.safetensors")


class TestFilesOfOnesOwnClasses:
    def test_the_documents_example(self, tmp_path, monkeypatch):
        """Prior, likelihood and guide of one's own, fitted through removals, saved, and loaded."""
        monkeypatch.chdir(tmp_path)
        text = PAGE.read_text(encoding="utf-8")
        section = text[text.index("## A prior, a likelihood, a guide of one's own") :]
        program = "\n".join(re.findall(r"^```python\n(.*?)^```", section, re.M | re.S))
        short = "ss.TrainingOptions(epochs=25, gate_rate=0.2), progress=False, guide="
        program, replaced = re.subn("guide=", short, program)
        assert replaced == 1
        names = {"__name__": "notebook"}
        exec(compile(program, PAGE.name, "exec"), names)
        result, again = names["result"], names["again"]
        assert result.history.removed
        assert type(again.guide) is names["PriorOddsGuide"]
        assert again.guide.times == 10.0
        assert again.model.prior == result.model.prior
        assert again.model.likelihood == result.model.likelihood
        for name, value in result.guide.state_dict().items():
            assert torch.equal(value, again.guide.state_dict()[name]), name

    @pytest.mark.parametrize("family", ["network", "prior", "likelihood", "guide"])
    def test_a_file_of_an_unknown_class_says_what_to_import(self, family, tmp_path):
        result = ss.fit(net(), X, Y, ss.TrainingOptions(epochs=1), progress=False)
        ss.save_fit(result, tmp_path / "fit.safetensors")
        with safe_open(tmp_path / "fit.safetensors", "pt") as file:
            metadata = dict(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata["header"])
        record = {"network": header["network"], "guide": header["guide"]}.get(family)
        record = header["network"][family] if record is None else record
        assert record["module"].startswith("pyro_ssbnn.")
        record |= {"network" if family == "network" else "name": "theirs", "module": "their.module"}
        save_file(
            tensors, tmp_path / "theirs.safetensors", {**metadata, "header": json.dumps(header)}
        )
        with pytest.raises(
            CheckpointError, match=rf"{family}: .*'theirs'.*their\.module: import that module first"
        ):
            ss.load_fit(tmp_path / "theirs.safetensors")

    @pytest.mark.parametrize("kind", ["hard", "soft", "coupled"])
    def test_a_fit_of_format_2_is_read(self, kind, tmp_path):
        """It knew two guides, by their options, and no modules."""
        model = net(width=6)
        guide = ss.CoupledGuide(model) if kind == "coupled" else None
        options = ss.TrainingOptions(epochs=1, hard_gates=kind != "soft")
        result = ss.fit(model, X, Y, options, guide=guide, progress=False)
        ss.save_fit(result, tmp_path / "new.safetensors")
        with safe_open(tmp_path / "new.safetensors", "pt") as file:
            metadata = dict(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata["header"])
        header |= {"guide": header["guide"]["options"], "hard_gates": result.guide.hard}
        for record in (header["network"], *header["network"].values()):
            if isinstance(record, dict):
                del record["module"]
        old = {**metadata, "format_version": "2", "header": json.dumps(header)}
        save_file(tensors, tmp_path / "old.safetensors", old)
        loaded = ss.load_fit(tmp_path / "old.safetensors").guide
        assert type(loaded) is type(result.guide)
        assert loaded.hard == result.guide.hard
        for name, value in result.guide.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
