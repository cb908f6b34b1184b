"""Run folders that someone has changed: every command refuses them with a message, or does its work."""

import json
import random
import shutil

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

LONG_FORM = (pytest.mark.slow, pytest.mark.faults)

WILD = (
    None,
    [],
    {},
    "",
    "x" * 50,
    -1,
    0,
    10**12,
    1e300,
    True,
    [[]],
    [None],
    {"a": 1},
    "\x1b[2J",
    "=1+1",
)
# Often those that cost little.
COMMANDS = ("summary", "predict", "prune", "finish", "fit", "plot", "effects", "diagnose", "export")
WEIGHTS = (6, 6, 6, 6, 6, 3, 3, 2, 1)


def places(value, path=()):
    """Where there is something in a JSON value."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:3])
        if isinstance(value, list)
        else ()
    )
    for key, part in inner:
        yield (*path, key)
        yield from places(part, (*path, key))


def changed(value, generator):
    """A copy with one place changed or taken away."""
    copy = json.loads(json.dumps(value))
    *way, last = generator.choice(list(places(copy)))
    at = copy
    for key in way:
        at = at[key]
    if generator.random() < 0.2:
        del at[last]
    else:
        at[last] = generator.choice(WILD)
    return copy


def tamper(run, generator):
    """Change one of the folder's files; returns what was done."""
    kind = generator.choice(("config", "header", "bytes", "cut", "state", "metrics", "link", "csv"))
    file = run / {
        "config": "config.json",
        "metrics": "metrics.json",
        "csv": "test_predictions.csv",
    }.get(kind, generator.choice(("fit.safetensors", "compact.safetensors")))
    if kind in ("config", "metrics"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps(changed(content, generator)))
    elif kind == "header":
        with safe_open(file, "pt") as stream:
            metadata = dict(stream.metadata())
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        metadata["header"] = json.dumps(changed(json.loads(metadata["header"]), generator))
        if generator.random() < 0.3:
            name = generator.choice(list(tensors))
            tensors[name] = tensors[name].flatten()[:1].clone()
        save_file(tensors, file, metadata)
    elif kind == "bytes":
        data = bytearray(file.read_bytes())
        for _ in range(generator.choice((1, 30))):
            data[generator.randrange(min(len(data), 3_000))] = generator.randrange(256)
        file.write_bytes(data)
    elif kind == "cut":
        data = file.read_bytes()
        file.write_bytes(data[: generator.randrange(len(data))])
    elif kind == "state":
        state = {"format": "x", "trained": generator.random() < 0.5, "replaces": True, "failed": {}}
        (run / "unfinished.json").write_text(json.dumps(changed(state, generator)))
    elif kind == "link":
        name = generator.choice(("config.json", "fit.safetensors", "plots", "metrics.json"))
        (run / name).rename(run.parent / f"elsewhere{generator.random()}")
        (run / name).symlink_to("/etc")
    else:
        text = file.read_text()
        at = generator.randrange(len(text))
        file.write_text(
            text[:at] + generator.choice(('"', ",,,", "\x00", "\n\n", "nan")) + text[at + 5 :]
        )
    return f"{kind} {file.name}"


@pytest.mark.parametrize("number", [5, pytest.param(400, marks=LONG_FORM)])
def test_tampered_run_folders(call, finished, table, tmp_path, number, tell):
    generator = random.Random(2)
    refused, largest = 0, 0.0
    for at in range(number):
        folder = tmp_path / f"{at}"
        run = folder / "run"
        shutil.copytree(finished, run)
        done = tamper(run, generator)
        name = generator.choices(COMMANDS, WEIGHTS)[0]
        rest = {
            "predict": [table, "--out", folder / "p.csv"],
            "prune": ["--out", folder / "c.safetensors"],
            "plot": ["--out", folder / "plots", "--kind", "elbo"],
            "effects": ["--draws", 10, "--out", folder / "e.csv"],
            "export": ["--out", folder / "c.onnx"],
            "diagnose": ["--no-progress"],
        }.get(name, [])
        command = ["fit", "--resume", run] if name == "fit" else [name, run, *rest]
        result = call(*command, codes=(0, 2, 3), plots=at % 8 == 0)
        largest = max(largest, result.memory)
        refused += result.code == 2
        assert result.memory < 512 << 20, (done, command)
        assert "\x1b" not in result.output, (done, command)
        shutil.rmtree(folder)
    assert refused > number / 4
    tell(
        f"{number} changed run folders (seed 2): {refused} refused, no traceback,"
        f" at most {largest / 1e6:.0f} MB taken"
    )


def test_options_of_another_version_are_named(call, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    state = {"format": "pyro_ssbnn unfinished run", "trained": False, "replaces": False}
    (run / "unfinished.json").write_text(json.dumps({**state, "failed": {}}))
    config = json.loads((run / "config.json").read_text())
    config["options"]["momentum_of_tomorrow"] = 0.5
    (run / "config.json").write_text(json.dumps(config))
    refused = call("fit", "--resume", run, codes=(2,)).output
    assert "does not know: momentum_of_tomorrow" in refused
    assert "go on with that version" in refused


@pytest.mark.parametrize("wrong", [[], {}, "x", True, 10**390, [[]]], ids=lambda v: str(v)[:9])
def test_scores_are_numbers(call, finished, tmp_path, wrong):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    metrics = json.loads((run / "metrics.json").read_text())
    places = (metrics["full"], metrics["pruned"], metrics["baselines"]["mean"])
    for place in places if wrong == "x" else places[:1]:  # one function reads them all
        kept = place["rmse"]
        place["rmse"] = wrong
        (run / "metrics.json").write_text(json.dumps(metrics))
        assert "rmse" in call("summary", run, codes=(2,)).output
        place["rmse"] = kept
    for name in ("full", "pruned", "baselines") if wrong == "x" else ("full",):
        (run / "metrics.json").write_text(json.dumps({**metrics, name: [wrong]}))
        assert "metrics.json" in call("summary", run, codes=(2,)).output


def test_links_in_a_run_folder_are_not_followed(call, finished, tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    shutil.copytree(finished, run)
    elsewhere.mkdir()
    shutil.rmtree(run / "plots")
    (run / "plots").symlink_to(elsewhere)
    result = call("plot", run, codes=(2,))
    assert "plots: is a symbolic link, which is not followed" in result.output
    assert list(elsewhere.iterdir()) == []
    (run / "config.json").rename(tmp_path / "config.json")
    (run / "config.json").symlink_to(tmp_path / "config.json")
    assert "symbolic link" in call("summary", run, codes=(2,)).output
