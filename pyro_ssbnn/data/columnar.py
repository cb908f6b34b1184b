"""Columnar files, parquet and feather, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import narwhals as nw

from pyro_ssbnn.data.table import Table
from pyro_ssbnn.data.wording import check_different
from pyro_ssbnn.errors import DataError

__all__ = ["ROWS", "columnar_names", "columnar_pieces", "columnar_rows"]

ROWS = 2**16
"""Rows of a piece."""


def columnar_names(files: Sequence[Path], format: str) -> list[str]:
    """Names of the columns that the files have together.

    :param format: "parquet" or "feather".
    :raises DataError: for files that cannot be read, or whose columns are of kinds that do not go together.
    """
    return list(_dataset(files, format).schema.names)


def columnar_rows(files: Sequence[Path], format: str) -> int:
    """Rows of the files together."""
    return int(_dataset(files, format).count_rows())


def columnar_pieces(files: Sequence[Path], format: str) -> Iterator[tuple[Table, float]]:
    """Rows of the files, one after another, each piece with the share of all rows that has been read with it."""
    import pyarrow as pa

    dataset = _dataset(files, format)
    whole, read = dataset.count_rows(), 0
    name = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    # What is read ahead is memory: a batch or two, of one file.
    batches = dataset.to_batches(
        batch_size=ROWS, batch_readahead=1, fragment_readahead=1, use_threads=False
    )
    try:
        for batch in batches:
            if batch.num_rows:
                frame = nw.from_native(pa.Table.from_batches([batch]), eager_only=True)
                rows = range(read, read + batch.num_rows)
                read += batch.num_rows
                yield Table(frame, name, "row", rows), read / whole
    except pa.ArrowException as error:
        raise DataError(f"{name}: not readable to its end ({str(error)[:200]}).") from error
    if not read:
        raise DataError(f"{name}: expected rows below the column names, found none.")


def _dataset(files: Sequence[Path], format: str) -> Any:
    import pyarrow as pa
    from pyarrow import dataset

    kind: Any = format
    if format == "parquet":  # which would otherwise hold all of a file that has been read
        options = dataset.ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True)
        kind = dataset.ParquetFileFormat(default_fragment_scan_options=options)
    try:
        schemas = [dataset.dataset(str(file), format=kind).schema for file in files]
        for file, schema in zip(files, schemas, strict=True):
            check_different(str(file), schema.names)
            if set(schema.names) != set(schemas[0].names):
                only = sorted(set(schema.names) ^ set(schemas[0].names))
                raise DataError(
                    f"{file}: expected the columns of {files[0]}; {only[0]!r} is only in one of them. Give files of"
                    " one table."
                )
        together = pa.unify_schemas(schemas, promote_options="permissive")
        return dataset.dataset([str(file) for file in files], format=kind, schema=together)
    except (pa.ArrowException, OSError) as error:
        which = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        raise DataError(
            f"{which}: not readable as {format} ({str(error)[:200]}). A file was damaged, is something else, or its"
            " columns are of other kinds than those of the rest."
        ) from error
