"""Change one place of the mathematics at a time, and see whether the tests notice.

    python .ci/mutants.py --number 300 --seed 0 --json benchmarks/results/mutants.json
    python .ci/mutants.py --again --json benchmarks/results/mutants.json

A mutant is one of cosmic-ray's changes (another operator, comparison, number, no decorator, ...) at one place. Places
are drawn without replacement, and at each one of the changes that it has. Annotations, which nothing runs, stay.
The tests of a mutant's room run, up to the first that fails, in a fork of a process that has imported everything else.
``--again`` tries those of a file that were left, with the tests of today.
"""

import argparse
import ast
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import arviz  # noqa: F401  (what every fork has from here on, besides pytest)
import matplotlib.pyplot  # noqa: F401
import pyro.infer.autoguide  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import sklearn.ensemble  # noqa: F401
import torch
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[1]
OWN = "tests/pyro_ssbnn/"
GUIDE = "tests/guides/test_structured_guide.py"
CONTRACT = [
    f"{GUIDE}::test_analytic_elbo_is_pyros_on_the_same_draw",
    f"{OWN}inference/test_elbo_sites.py",
]
# Modules of a room, and the tests that have to notice, the quickest first.
ROOMS = {
    "distributions": {
        "pyro_ssbnn/distributions/beta_binomial.py": [f"{OWN}distributions/test_beta_binomial.py"],
        "pyro_ssbnn/distributions/block*.py": [
            f"{OWN}distributions/test_blocks.py",
            f"{OWN}distributions/test_beta_binomial.py",
            f"{OWN}inference/test_settling.py",
        ],
        "pyro_ssbnn/distributions/censored.py": [f"{OWN}likelihoods/test_survival.py"],
        "pyro_ssbnn/distributions/coupled.py": [
            f"{OWN}distributions/test_blocks.py",
            f"{OWN}distributions/test_beta_binomial.py",
            "tests/guides/test_coupled_guide.py",
        ],
        "pyro_ssbnn/distributions/[gks]*.py": [
            f"{OWN}distributions/test_distributions.py",
            *CONTRACT,
        ],
        "pyro_ssbnn/distributions/mixture.py": [
            f"{OWN}distributions/test_mixture.py",
            f"{OWN}likelihoods/test_predictive_quantiles.py",
        ],
        "pyro_ssbnn/distributions/penalty.py": [
            f"{GUIDE}::test_group_lasso_variances_and_weights_follow_what_scales_them",
            f"{GUIDE}::test_mean_weights_are_their_monte_carlo_mean",
            f"{GUIDE}::test_analytic_elbo_is_pyros_on_the_same_draw",
        ],
    },
    "bound": {
        "pyro_ssbnn/inference/elbo.py": [*CONTRACT, f"{OWN}inference/test_score_function.py"],
    },
    "selection": {
        "pyro_ssbnn/selection/[ej]*.py": [
            f"{OWN}selection/test_error_control.py",
            f"{OWN}selection/test_joint.py",
        ],
        "pyro_ssbnn/selection/rules.py": [
            f"{OWN}selection/test_pruning.py",
            f"{OWN}selection/test_error_control.py",
        ],
    },
    "pruning": {
        "pyro_ssbnn/selection/pruning.py": [
            f"{OWN}selection/test_pruning.py",
            f"{OWN}inference/test_mixture.py::TestPruning",
        ]
    },
}
CPU_SECONDS = 120  # a mutant that takes longer goes round in circles


@dataclass
class Mutant:
    """A change at one place.

    :param tests: that have to notice.
    :param change: the line before and after.
    :param end: "killed", "survived", or "never ended" (killed too).
    :param left_at_first: it survived once, and was tried again with other tests.
    """

    room: str
    module: str
    operator: str
    occurrence: int
    line: int
    tests: list[str]
    change: str = ""
    end: str = ""
    left_at_first: bool = False


def without_annotations(source: str) -> str:
    """What a module does, as text that compares."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def places(room: str) -> list[list[Mutant]]:
    """The changes that every place of a room's modules has."""
    found: dict[tuple[str, object], list[Mutant]] = {}
    files = [(f, tests) for glob, tests in ROOMS[room].items() for f in sorted(ROOT.glob(glob))]
    for file, tests in files:
        module, tree = str(file.relative_to(ROOT)), get_ast(file.read_text(encoding="utf-8"))
        for name in sorted(plugins.operator_names()):
            if plugins.get_operator(name).arguments():
                continue  # those that want to know names of variables
            operator = plugins.get_operator(name)()
            positions = [p for node in ast_nodes(tree) for p in operator.mutation_positions(node)]
            for occurrence, ((line, column), _) in enumerate(positions):
                mutant = Mutant(room, module, name, occurrence, line, tests)
                found.setdefault((module, (line, column)), []).append(mutant)
    return list(found.values())


def mutated(mutant: Mutant) -> str | None:
    """The source of a mutant's module; None where it does what it did, or is no Python."""
    source = (ROOT / mutant.module).read_text(encoding="utf-8")
    changed = mutate_code(source, plugins.get_operator(mutant.operator)(), mutant.occurrence)
    if changed is None:
        return None
    try:
        if without_annotations(changed) == without_annotations(source):
            return None
    except SyntaxError:
        return None
    pairs = zip(source.splitlines(), changed.splitlines(), strict=False)
    old, new = next((a.strip(), b.strip()) for a, b in pairs if a != b)
    mutant.change = f"{old}  ->  {new}"
    return changed


class Loader(importlib.machinery.SourceFileLoader):
    """Finds and loads one module, whose source is another than its file's."""

    def __init__(self, name: str, file: Path, source: str) -> None:
        super().__init__(name, str(file))
        self.source = source

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Answer imports of the module."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, fullname: str) -> object:
        """Compile the other source; no compiled file is read or written."""
        return compile(self.source, self.path, "exec")


def end_of(mutant: Mutant, source: str | None) -> str:
    """Run the tests of a mutant, or of the code as it is (None), in a fork; "survived" where all pass."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        output = tempfile.TemporaryFile()  # noqa: SIM115  (the process ends without leaving it)
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        if source is not None:
            name = mutant.module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            sys.meta_path.insert(0, Loader(name, ROOT / mutant.module, source))
        os._exit(pytest.main(["-x", "-m", "not slow", "-p", "no:cacheprovider", *mutant.tests]))
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return "never ended"
    code = os.WEXITSTATUS(status)
    if code not in (0, 1, 2):  # 2: a module of tests cannot even be imported
        raise SystemExit(f"pytest ended with {code}: {mutant.tests}")
    return "killed" if code else "survived"


def try_again(tried: list[Mutant]) -> None:
    """Run the tests of today on the mutants that were left."""
    for mutant in (mutant for mutant in tried if mutant.end == "survived"):
        before = mutant.change
        source = mutated(mutant)
        if source is None or mutant.change != before:
            raise SystemExit(f"the code has changed: {mutant.module}:{mutant.line}: {before}")
        mutant.tests = next(
            tests for glob, tests in ROOMS[mutant.room].items() if Path(mutant.module).match(glob)
        )
        mutant.end, mutant.left_at_first = end_of(mutant, source), True
        print(f"{mutant.end}: {mutant.module}:{mutant.line}: {mutant.change}", flush=True)


def main() -> None:
    """Draw mutants, run their tests, print those that nobody noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--number", type=int, default=80, help="mutants of a room, if it has as many places"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS))
    parser.add_argument("--json", type=Path, help="where every mutant and its end go")
    parser.add_argument("--again", action="store_true", help="those of --json that were left")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    torch.set_num_threads(1)
    done: list[Mutant] = []
    if chosen.again:
        done = [Mutant(**record) for record in json.loads(chosen.json.read_text())]
        try_again(done)
    for room in () if chosen.again else chosen.rooms:
        generator = random.Random(chosen.seed)
        drawn, whole = places(room), set()
        generator.shuffle(drawn)
        ends: list[str] = []
        for mutant in map(generator.choice, drawn):
            source = mutated(mutant)
            if source is None or len(ends) == chosen.number:
                continue
            if (key := tuple(mutant.tests)) not in whole and end_of(mutant, None) != "survived":
                raise SystemExit(f"these fail as it is: {mutant.tests}")
            whole.add(key)
            mutant.end = end_of(mutant, source)
            ends.append(mutant.end)
            done.append(mutant)
            if mutant.end == "survived":
                print(f"{mutant.module}:{mutant.line}: {mutant.change}", flush=True)
        print(f"{room}: {len(ends)} tried, {len(ends) - ends.count('survived')} killed", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(mutant) for mutant in done], indent=1) + "\n")


if __name__ == "__main__":
    main()
