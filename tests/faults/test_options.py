"""Values of options that nobody means: refused in the words of the option, before anything is trained or allocated."""

import random

import pytest

LONG_FORM = (pytest.mark.slow, pytest.mark.faults)

WILD = (
    "",
    "nan",
    "inf",
    "-inf",
    "1e300",
    "-1",
    "0",
    "1e-300",
    "10000000000",
    "3.7",
    "x",
    "--",
    "0x1",
)
FIT = (
    *("hidden", "activation", "input-inclusion", "noise-scale", "prior", "inclusion", "slab-scale"),
    *(
        "global-scale",
        "cap",
        "threads",
        "draws",
        "checkpoint-every",
        "test-fraction",
        "split",
        "task",
    ),
    *(
        "format",
        "target",
        "epochs",
        "batch-size",
        "optimizer",
        "mean-rate",
        "momentum",
        "scale-rate",
    ),
    *("latent-rate", "gate-rate", "kl-warmup", "decay-after", "milestones", "milestone-factor"),
    *("clip-norm", "num-particles", "initial-inclusion", "patience", "min-delta", "remove-below"),
    *("remove-after", "compile", "seed", "device", "dtype"),
)


def cases(number, seed):
    """Each option with wild values, some with two options at once."""
    every = [((name, value),) for name in FIT for value in WILD]
    generator = random.Random(seed)
    generator.shuffle(every)
    while len(every) < number:
        pair = generator.sample(FIT, 2)
        every.append(tuple((name, generator.choice(WILD)) for name in pair))
    return every[:number]


@pytest.mark.parametrize("number", [8, pytest.param(700, marks=LONG_FORM)])
def test_wild_options(call, table, tiny, tmp_path, number, tell):
    refused, largest = 0, 0.0
    for at, case in enumerate(cases(number, seed=1)):
        run = tmp_path / f"run{at}"
        options = [part for name, value in case for part in (f"--{name}", value)]
        known = [] if case[0][0] == "target" else ["--target", "y"]
        if any(name == "epochs" and value == "10000000000" for name, value in case):
            continue  # meant: it is stopped by a signal, and goes on
        result = call("fit", table, *known, *tiny, *options, "--out", run, plots=at % 8 == 0)
        largest = max(largest, result.memory)
        if result.code == 2:
            refused += 1
            assert result.memory < 256 << 20, case
            assert not run.exists() or (run / "unfinished.json").exists(), case
    assert refused > number / 3
    tell(
        f"{number} values of options (seed 1): {refused} refused, no traceback, no hang, at most"
        f" {largest / 1e6:.0f} MB taken"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--slab-scale", "1e300"), ("--slab-scale", "1e+300")),
        (("--num-particles", "1000000000"), ("--num-particles", "1,000")),
        (("--device", "mps"), ("device 'mps'", "'cpu'")),
        (("--device", "xpu"), ("device 'xpu'", "'cpu'")),
        (("--precision", "half"), ("--precision", "'bf16'")),
        (("--device", "meta"), ("device 'meta'",)),
        (("--draws", "1000000000"), ("--draws",)),
        (("--hidden", "100000000"), ("GiB of memory",)),
        (("--threads", "100000"), ("--threads",)),
        (("--seed", "-1"), ("--seed", "4,294,967,295")),
        (("--input-inclusion", "10000000000"), ("strictly between 0 and 1", "10000000000")),
        (("--input-inclusion", ""), ("--input-inclusion: expected a number",)),
        (("--clip-norm", "inf"), ("--clip-norm", "inf")),
        (("--temperature", "inf", "inf"), ("--temperature", "inf")),
        (("--prior", "ss-ghs", "--global-scale", "1e-10"), ("--global-scale", "1e-10")),
    ],
    ids=str,
)
def test_the_message_is_in_the_words_of_the_option(call, table, tiny, tmp_path, options, words):
    result = call(
        "fit", table, "--target", "y", *tiny, *options, "--out", tmp_path / "run", codes=(2,)
    )
    for word in words:
        assert word in result.output
    assert list(tmp_path.iterdir()) == []
    assert "Training" not in result.output
