"""What tables of any size cost: CPU seconds a row and peak memory, each in a process of its own.

    python benchmarks/large.py --rows 100000 1000000 10000000 --csv 1000000 --json benchmarks/results/large.json

A table of 20 standard Normal predictors, of which three matter, is written as parquet (as CSV for ``--csv``), read by
:class:`pyro_ssbnn.data.TableStream`, and fitted for two epochs by 20-64-32-1, the command line's network. Its rows are
then predicted with 20 draws, a million of them at most. The CSV goes through the command line, with all that a run
makes: scores, draws, plots.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = 20
CHUNK = 200_000  # rows written together
EPOCHS = 2
PREDICTED = 10**6  # rows, at most
MEGABYTE = 2**20


def write_table(file: Path, rows: int) -> None:
    """Write a table, some rows at a time."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    random = np.random.default_rng(rows)
    kinds = [(f"x{i}", pa.float32()) for i in range(COLUMNS)]
    schema = pa.schema([*kinds, ("y", pa.float64())])
    kind: Any = parquet.ParquetWriter if file.suffix == ".parquet" else csv.CSVWriter
    with kind(str(file), schema) as writer:
        for at in range(0, rows, CHUNK):
            x = random.standard_normal((min(CHUNK, rows - at), COLUMNS), np.float32)
            noise = 0.3 * random.standard_normal(len(x))
            y = np.sin(2 * x[:, 0]) + x[:, 3] * x[:, 7] + noise
            writer.write_table(pa.table([*x.T, y], schema=schema))


def usage(who: int) -> tuple[float, float]:
    """CPU seconds and peak memory in MB so far."""
    found = resource.getrusage(who)
    return found.ru_utime + found.ru_stime, found.ru_maxrss * 1024 / MEGABYTE


def measure(file: Path, folder: Path) -> dict[str, Any]:
    """Learn, write, fit and predict a table in this process."""
    import torch

    import pyro_ssbnn as ss

    torch.set_num_threads(1)
    record: dict[str, Any] = {}
    began = usage(resource.RUSAGE_SELF)[0]

    def note(stage: str) -> None:
        nonlocal began
        now, memory = usage(resource.RUSAGE_SELF)
        record[stage] = {"cpu_s": now - began, "peak_mb": memory}
        began = now
        print(stage, json.dumps(record[stage]), flush=True)

    stream = ss.data.TableStream([file], "y", test_fraction=0)
    prepared = stream.preprocessing
    note("learn")
    train, _ = stream.encoded(folder / "rows")
    note("write")
    net = ss.MLP(
        COLUMNS, [64, 32], prior=ss.SSGHS(inclusion=0.1), likelihood=ss.GaussianLikelihood()
    )
    marks: list[float] = []
    result = ss.fit(
        net,
        train,
        options=ss.TrainingOptions(epochs=EPOCHS),
        progress=False,
        callback=lambda record, fit: marks.append(usage(resource.RUSAGE_SELF)[0]),
    )
    note("fit")
    records = len(result.history) - 1
    steady = (marks[-1] - marks[0]) / (records / len(result.history)) if records else None
    record["fit"]["steady_cpu_s"] = steady  # as if all records cost what those after the first do
    squares, counted = 0.0, 0
    for summary, part in zip(
        ss.predict_blocks(result.model, result.guide, train, num_draws=20),
        train.blocks(),
        strict=False,
    ):
        squares += float((summary.mean - part[1]).square().sum())
        counted += len(summary.mean)
        if counted >= PREDICTED:
            break
    note("predict")
    record["predict"]["rows"] = counted
    record["rmse"] = (squares / counted) ** 0.5 * prepared.target.scale
    return record


def through_the_command_line(file: Path, folder: Path) -> dict[str, Any]:
    """``pyro-ssbnn fit`` of a table, as a user types it."""
    out = folder / "run"
    command = [sys.executable, "-c", "from pyro_ssbnn.cli.main import app; app()"]
    options = ["fit", str(file), "--target", "y", "--epochs", str(EPOCHS), "--out", str(out)]
    before, start = usage(resource.RUSAGE_CHILDREN)[0], time.perf_counter()
    subprocess.run([*command, *options, "--no-progress"], check=True)
    cpu, memory = usage(resource.RUSAGE_CHILDREN)
    scores = json.loads((out / "metrics.json").read_text())
    return {
        "cpu_s": cpu - before,
        "wall_s": time.perf_counter() - start,
        "peak_mb": memory,
        "test_rows": scores["number_of_rows"],
        "rmse": scores["full"]["rmse"],
    }


def in_a_process(kind: str, rows: int, folder: Path) -> dict[str, Any]:
    """A measurement in a process of its own, whose table and rows are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ("table.csv" if kind == "csv" else "table.parquet")
    child = [sys.executable, __file__, "--child", kind, "--folder", str(folder)]
    try:
        subprocess.run([*child, "--rows", str(rows), "--write"], check=True)
        subprocess.run(child, check=True)
        record: dict[str, Any] = json.loads((folder / "record.json").read_text())
        return {**record, "file_mb": file.stat().st_size / MEGABYTE, "rows": rows}
    finally:
        shutil.rmtree(folder)


def summary(results: dict[str, Any]) -> str:
    """A table of what was measured."""
    lines = ["| rows | learn | write | fit, 2 epochs | steady | predict | peak memory |"]
    lines.append("|---|---|---|---|---|---|---|")
    for record in results["parquet"]:
        micro = 1e6 / record["rows"]
        stages = [record[s]["cpu_s"] * micro for s in ("learn", "write", "fit")]
        steady = record["fit"]["steady_cpu_s"]
        stages.append(float("nan") if steady is None else steady * micro)
        stages.append(1e6 * record["predict"]["cpu_s"] / record["predict"]["rows"])
        cells = " | ".join(f"{value:.1f}" for value in stages)
        lines.append(f"| {record['rows']:,} | {cells} | {record['predict']['peak_mb']:.0f} MB |")
    lines.append("(CPU microseconds a row)")
    for record in results["csv"]:
        lines.append(
            f"{record['rows']:,} rows of CSV through the command line: {record['cpu_s']:.0f} CPU s,"
            f" {record['peak_mb']:.0f} MB, scores of {record['test_rows']:,} rows"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[10**5, 10**6, 10**7])
    parser.add_argument("--csv", type=int, nargs="*", default=[10**6])
    parser.add_argument("--folder", type=Path, help="where tables are written and removed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        name = "table.csv" if given.child == "csv" else "table.parquet"
        if given.write:
            write_table(given.folder / name, given.rows[0])
            return
        how = through_the_command_line if given.child == "csv" else measure
        record = how(given.folder / name, given.folder)
        (given.folder / "record.json").write_text(json.dumps(record))
        return
    place = given.folder or Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix="large-", dir=place))
    results: dict[str, Any] = {"columns": COLUMNS, "epochs": EPOCHS, "parquet": [], "csv": []}
    try:
        for kind, sizes in (("parquet", given.rows), ("csv", given.csv)):
            for rows in sizes:
                print(f"{kind}, {rows:,} rows", flush=True)
                results[kind].append(in_a_process(kind, rows, folder / f"{kind}-{rows}"))
                if given.json is not None:
                    given.json.write_text(json.dumps(results, indent=1) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(summary(results))


if __name__ == "__main__":
    main()
