"""``pyro-ssbnn compress``: a trained network of images in, a smaller one out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_ssbnn.cli import data_options as d
from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import messages, results
from pyro_ssbnn.cli.sources import SourceChoice
from pyro_ssbnn.cli.training_options import with_training_options
from pyro_ssbnn.cli.typed import check_suffix, is_given, numbers
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.options import TrainingOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pyro_ssbnn.data import Dataset

__all__ = ["compress"]

_VALIDATION = 0.1  # of the training rows
_TARGET = {"rich_help_panel": "Target"}
_ROWS = 256


@with_training_options
def compress(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Images, as 'fit' takes them.")],
    *,
    network: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="lenet (parts conv1, conv2, hidden1, hidden2, output), or a classifier of torchvision by its name,"
            " such as resnet18.",
        ),
    ],
    weights: Annotated[
        Path, typer.Option(help="Its trained weights: a state_dict in a .safetensors file.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="File of the smaller network (.safetensors, pyro_ssbnn.load_compact reads it); a table of its layers"
            " beside it (.csv)."
        ),
    ],
    format: d.SourceFormat = None,
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER,...",
            help="Mean of each channel of pixels in 0..1, as the network was trained. Default: 0.",
        ),
    ] = None,
    sd: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER,...", help="Standard deviation of each channel likewise. Default: 1."
        ),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(help="Keep so many nodes at most.", **_TARGET)
    ] = None,
    multiply_adds: Annotated[
        float | None,
        typer.Option(help="Multiply-adds a row at most; up to 1 a share of them.", **_TARGET),
    ] = None,
    latency: Annotated[
        float | None, typer.Option(help="Milliseconds of a call at most, one row.", **_TARGET)
    ] = None,
    accuracy_lost: Annotated[
        float | None,
        typer.Option(
            help="Accuracy lost at most, on a tenth of the training rows held out, before fine-tuning (0.01: one"
            " point). Without a target nodes stay whose inclusion is above 1/2.",
            **_TARGET,
        ),
    ] = None,
    power: Annotated[
        float | None,
        typer.Option(
            help="Power of the likelihood; 1 for the bound itself. Default: 50, or 1,000 under a target."
        ),
    ] = None,
    progress: o.Progress = None,
    **training: Any,
) -> None:
    """Make a trained network of images smaller: nodes are cut, and what is kept is trained on from its weights."""
    check_suffix(out, ".safetensors")
    training["remove_below"] = training["remove_below"] or None
    given = {k: v for k, v in training.items() if is_given(context, k)}
    options = TrainingOptions(**{"mean_rate": 0.012, **given})  # the weights were trained before
    from pyro_ssbnn.cli.sources import LoadedData, load
    from pyro_ssbnn.cli.tables import print_pruning
    from pyro_ssbnn.compression import compress as compressed
    from pyro_ssbnn.compression.known import known_module, load_weights
    from pyro_ssbnn.data import Dataset, split
    from pyro_ssbnn.files.atomic import replacing
    from pyro_ssbnn.files.compact import save_compact
    from pyro_ssbnn.likelihoods import CategoricalLikelihood

    data = load(SourceChoice(source, format, seed=options.seed))
    train, test = (data.train, data.test) if isinstance(data, LoadedData) else (None, None)
    if not isinstance(train, Dataset) or train.image_shape is None:
        raise ConfigurationError(f"{source}: compress is for images; this source is a table.")
    classes = len(train.class_names)
    module = known_module(network, train.image_shape, classes)
    load_weights(module, weights)
    held = None
    if accuracy_lost is not None:
        train, held = split(train, _VALIDATION, options.seed)
    statistics = (_channels("--mean", mean, train, 0.0), _channels("--sd", sd, train, 1.0))
    result = compressed(
        module,
        _images(train, *statistics),
        train.y,
        likelihood=CategoricalLikelihood(classes),
        options=options,
        power=power,
        nodes=nodes,
        multiply_adds=multiply_adds,
        latency=latency,
        accuracy_lost=accuracy_lost,
        validation=None if held is None else (_images(held, *statistics), held.y),
        progress=messages.is_terminal if progress is None else progress,
    )
    save_compact(result.pruning.network, out, {"classes": list(train.class_names)})
    with replacing(out.with_suffix(".csv")) as temporary:
        result.layers.to_csv(temporary)
    print_pruning(result.pruning.report, result.pruning.selection.rule)
    if isinstance(test, Dataset):
        x = _images(test, *statistics)
        before, after = (_accuracy(net, x, test.y) for net in (module, result.module))
        results.print(
            f"Right in {before:.2%} of {len(test):,} test rows before, {after:.2%} after",
            soft_wrap=True,
        )
    results.print(f"Smaller network written to [bold]{out}[/]", soft_wrap=True)


def _channels(option: str, text: str | None, data: Dataset, default: float) -> Tensor:
    """A number for each channel, ``[C, 1, 1]``."""
    import torch

    channels = (data.image_shape or (1,))[0]
    expected = f"{channels} number{'s' if channels > 1 else ''}, one a channel"
    values = [default] * channels if text is None else numbers(option, text, float, expected)
    if len(values) != channels or (option == "--sd" and min(values) <= 0):
        raise ConfigurationError(f"{option}: expected {expected}; got {text!r}.")
    return torch.tensor(values)[:, None, None]


def _images(data: Dataset, mean: Tensor, sd: Tensor) -> Tensor:
    """Images as the network takes them, ``[N, C, H, W]``."""
    return (data.x.unflatten(1, data.image_shape or (-1,)) - mean) / sd


def _accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of rows whose largest output is their class."""
    import torch

    with torch.no_grad():
        right = sum(
            int((net.eval()(part).argmax(-1).cpu() == labels).sum())
            for part, labels in zip(x.split(_ROWS), y.split(_ROWS), strict=True)
        )
    return right / len(x)
