"""From the options of the command line to a network: prior, likelihood, widths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyro_ssbnn.cli.console import messages
from pyro_ssbnn.cli.kinds import NetworkKind, PriorName, TaskName
from pyro_ssbnn.cli.typed import names as split_names
from pyro_ssbnn.cli.typed import numbers
from pyro_ssbnn.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from pyro_ssbnn.data import Preprocessing
    from pyro_ssbnn.likelihoods import Likelihood
    from pyro_ssbnn.models import GatedNetwork
    from pyro_ssbnn.priors import BetaInclusion, Prior

__all__ = ["NetworkChoice", "build_network", "parse_hidden", "parse_nodes"]


_OPTIONS = {"scale": "--slab-scale", "global_scale": "--global-scale", "cap": "--cap"}
_BETA = "beta:"
_HORSESHOES = (PriorName.ss_ghs, PriorName.group_horseshoe)


@dataclass(frozen=True)
class NetworkChoice:
    """The user's choice of network; None leaves the network's or the prior's own default."""

    hidden: str | None
    activation: str | None
    prior: PriorName | None
    inclusion: str | None = None
    slab_scale: float | None = None
    global_scale: float | None = None
    cap: str | None = None
    input_gates: bool | None = None
    input_inclusion: str | None = None
    noise_scale: float | None = None
    task: TaskName | None = None
    linear: bool | None = None
    network: NetworkKind = NetworkKind.mlp


def build_network(
    choice: NetworkChoice, preprocessing: Preprocessing, y: Tensor, num_data: int | None = None
) -> GatedNetwork:
    """Make the network for what was learnt of the training data.

    :param y: targets of the training rows, ``[N]``, in their own units, or a sample of them.
    :param num_data: training rows; None where y are of all.
    :raises ConfigurationError: for options outside their domain, or that do not suit each other.
    """
    from pyro_ssbnn.data import TableDescription
    from pyro_ssbnn.data.own_units import check_transform
    from pyro_ssbnn.models import MLP, widths_for_rows

    names = preprocessing.feature_names
    number = num_data or len(y)
    is_table = isinstance(preprocessing.features, TableDescription)
    if choice.hidden is not None:
        hidden = parse_hidden(choice.hidden)
    else:
        hidden = widths_for_rows(number) if is_table else [64, 32]
    inclusion = _input_inclusion(choice, names)
    linear = choice.linear
    if linear is None:
        linear = inclusion is not None and bool(hidden) and is_table
    if linear:
        inclusion = _of_either(inclusion)
    likelihood = _likelihood(choice, preprocessing, y, hidden)
    check_transform(likelihood, preprocessing.target, "--transform-target")
    prior = choice.prior or (PriorName.ss_ig if is_table else PriorName.ss_ghs)
    common: dict[str, Any] = {"prior": _prior(choice, prior, number), "likelihood": likelihood}
    if choice.activation is not None:
        common["activation"] = choice.activation
    if choice.network is not NetworkKind.mlp:
        return _image_network(choice, preprocessing.image_shape, common)
    return MLP(
        len(names),
        hidden,
        **common,
        input_inclusion=inclusion,
        input_names=names,
        input_widths=preprocessing.widths,
        linear=linear,
    )


def _image_network(
    choice: NetworkChoice, shape: tuple[int, int, int] | None, common: dict[str, Any]
) -> GatedNetwork:
    from pyro_ssbnn import models

    kind = choice.network
    if shape is None:
        raise ConfigurationError(
            f"--network {kind.value} is for images; this source is a table. Leave it out, for a perceptron."
        )
    gated = choice.input_gates or choice.input_inclusion is not None
    foreign = {"--input-gates": gated, "--linear": choice.linear}
    foreign["--hidden"] = choice.hidden is not None and kind is not NetworkKind.lenet
    for option, given in foreign.items():
        if given:
            raise ConfigurationError(f"{option} is not for --network {kind.value}: leave it out.")
    if kind is NetworkKind.lenet:
        if choice.hidden is not None:
            common = {**common, "hidden": parse_hidden(choice.hidden)}
        return models.LeNet(shape, **common)
    if kind is NetworkKind.wrn28_10:
        return models.WideResNet(shape, 28, 10, **common)
    return models.ResNet(shape, int(kind.value.removeprefix("resnet")), **common)


def parse_hidden(text: str) -> list[int]:
    """Widths from ``400,400``; an empty text stands for no hidden layer.

    :raises ConfigurationError: for anything else than whole numbers.
    """
    return numbers("--hidden", text, int, "widths such as 64,32, or '' for a linear model")


def parse_nodes(text: str) -> int | dict[str, int]:
    """Numbers of nodes to keep from ``hidden1=20,hidden2=10``, or from one number for every layer.

    :raises ConfigurationError: for anything else.
    """
    try:
        if "=" not in text:
            return int(text)
        pairs = [part.split("=") for part in text.split(",")]
        nodes = {name.strip(): int(number) for name, number in pairs}
    except ValueError as error:
        raise ConfigurationError(
            f"--nodes: expected hidden1=20,hidden2=10 (or one number for every hidden layer); got {text!r}."
        ) from error
    if len(nodes) < len(pairs):
        raise ConfigurationError(f"--nodes: a layer is named twice in {text!r}.")
    return nodes


def _prior(choice: NetworkChoice, name: PriorName, num_data: int) -> Prior:
    from pyro_ssbnn.checks import check_positive
    from pyro_ssbnn.priors import from_config

    config: dict[str, Any] = {"name": name.value}
    if choice.inclusion is not None:
        config["inclusion"] = _inclusion(choice.inclusion, num_data)
    scales = {"--slab-scale": choice.slab_scale, "--global-scale": choice.global_scale}
    check_positive("fit", **{k: v for k, v in scales.items() if v is not None})
    if choice.slab_scale is not None:
        config["scale"] = choice.slab_scale
    given = {"--global-scale": choice.global_scale, "--cap": choice.cap}
    foreign = [name for name, value in given.items() if value is not None]
    if foreign and name not in _HORSESHOES:
        raise ConfigurationError(
            f"{' and '.join(foreign)}: only the horseshoe priors have it ({', '.join(p.value for p in _HORSESHOES)});"
            f" --prior is {name.value}. Give --prior ss-ghs."
        )
    if choice.global_scale is not None:
        config["global_scale"] = choice.global_scale
    if choice.cap is not None:
        config["cap"] = None if choice.cap == "random" else _number("--cap", choice.cap, "random")
    try:
        return from_config(config)
    except ConfigurationError as error:
        found = re.match(r"\w+: (scale|global_scale|cap) must", str(error))
        if not found:
            raise
        text = str(error)[found.start(1) :].removeprefix(found[1])
        raise ConfigurationError(f"{_OPTIONS[found[1]]}{text}") from error


def _inclusion(text: str, num_data: int) -> float | list[float] | dict[str, Any]:
    """In the form of a prior's ``to_config`` record."""
    if text.strip() == "theory":
        return {"theory": {"num_data": num_data}}
    if text.startswith(_BETA):
        return {"beta": asdict(_beta("--inclusion", text))}
    if "," in text:
        return [_number("--inclusion", part, "theory") for part in text.split(",")]
    return _number("--inclusion", text, "theory")


def _number(option: str, text: str, word: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{option}: expected a number or the word {word!r}; got {text!r}."
        ) from error


def _input_inclusion(
    choice: NetworkChoice, names: Sequence[str]
) -> float | list[float] | BetaInclusion | None:
    if choice.input_gates is False and choice.input_inclusion is not None:
        raise ConfigurationError("--no-input-gates and --input-inclusion contradict each other.")
    text = choice.input_inclusion
    if text is None:
        return 1 / max(len(names), 2) if choice.input_gates else None
    if text.startswith(_BETA):
        return _beta("--input-inclusion", text)
    first, *others = split_names(text) or ("",)
    everyone = _probability(first, text)
    if not others:
        return everyone
    each = dict.fromkeys(names, everyone)
    for part in others:
        name, _, value = part.rpartition("=")
        if name not in each:
            raise ConfigurationError(
                f"--input-inclusion: expected the name of a predictor before each other number, as in 0.1,age=0.5; got"
                f" {part!r}. Predictors are {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}."
            )
        each[name] = _probability(value, text)
    return list(each.values())


def _of_either(inclusion: Any) -> Any:
    """Inclusion of each of a predictor's two gates, so that either lets it in with the probability given.

    What is no probability is left as it is: the network refuses it.
    """
    from pyro_ssbnn.priors import each_of_two

    if isinstance(inclusion, list):
        return [_of_either(probability) for probability in inclusion]
    given = isinstance(inclusion, float) and 0 < inclusion < 1
    return each_of_two(inclusion) if given else inclusion


def _probability(part: str, text: str) -> float:
    try:
        return float(part)
    except ValueError as error:
        raise ConfigurationError(
            f"--input-inclusion: expected a number such as 0.1, with others for single predictors (0.1,age=0.5), or"
            f" beta:1,9; got {text!r}."
        ) from error


def _beta(option: str, text: str) -> BetaInclusion:
    from pyro_ssbnn.priors import BetaInclusion

    expected = "beta:A,B with two positive numbers, such as beta:1,9"
    values = numbers(option, text.removeprefix(_BETA), float, expected)
    if len(values) != 2:
        raise ConfigurationError(f"{option}: expected {expected}; got {text!r}.")
    return BetaInclusion(*values)


def _likelihood(
    choice: NetworkChoice, preprocessing: Preprocessing, y: Tensor, hidden: list[int]
) -> Likelihood:
    from pyro_ssbnn import likelihoods
    from pyro_ssbnn.checks import check_positive

    task = preprocessing.task if choice.task is None else choice.task.value
    if choice.noise_scale is not None and task != "regression":
        raise ConfigurationError(
            f"--noise-scale is the known noise of a regression; the task here is {task}."
        )
    if task == "student-t":
        return likelihoods.StudentTLikelihood()
    if task == "heteroscedastic":
        return likelihoods.HeteroscedasticLikelihood()
    if task == "ordinal":
        _check_grades(preprocessing)
        return likelihoods.OrdinalLikelihood(len(preprocessing.class_names))
    if preprocessing.task == "count":
        return _count_likelihood(task, y)
    if task == "regression":
        if choice.noise_scale is None:
            if choice.task is None and hidden and preprocessing.has_gaps:
                return likelihoods.HeteroscedasticLikelihood()
            return likelihoods.GaussianLikelihood()
        check_positive("fit", **{"--noise-scale": choice.noise_scale})
        if not preprocessing.target.map.is_identity:
            raise ConfigurationError(
                "--noise-scale is a scale in the target's own units, which a transformed target has not: leave it out."
            )
        # The network sees the standardised target.
        return likelihoods.GaussianLikelihood(scale=choice.noise_scale / preprocessing.target.scale)
    if task == "classification":
        return likelihoods.CategoricalLikelihood(len(preprocessing.class_names))
    return likelihoods.BernoulliLikelihood()


def _count_likelihood(task: str, y: Tensor) -> Likelihood:
    """Of the kind asked for, or the one the counts' spread suggests, said aloud; both in units of their mean."""
    from pyro_ssbnn import likelihoods

    found = likelihoods.suggest_likelihood(y, counts=True)
    if task == "count":
        messages.print(found.reason, soft_wrap=True)
        return found.likelihood
    if not isinstance(found.likelihood, likelihoods.CountLikelihood):
        raise TypeError("suggest_likelihood: counts have a likelihood of counts.")
    unit, largest = found.likelihood.unit, found.likelihood.largest
    if task == "poisson":
        return likelihoods.PoissonLikelihood(unit, largest)
    return likelihoods.NegativeBinomialLikelihood(unit, largest)


def _check_grades(preprocessing: Preprocessing) -> None:
    """Grades need an order, which names do not have."""
    names = [name for name in preprocessing.class_names if not name.lstrip("-").isdigit()]
    if names:
        raise ConfigurationError(
            f"--task ordinal: grades must be numbered in their order; got the name {names[0]!r}. Number them in the"
            " table, or take --task classification."
        )
