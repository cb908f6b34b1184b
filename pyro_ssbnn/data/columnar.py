"""Columnar files, parquet and feather, some rows at a time or whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import narwhals as nw

from pyro_ssbnn.data.table import Table
from pyro_ssbnn.data.unpacking import (
    check_feather,
    check_parquet,
    check_rows_read,
    text_columns,
    written_out,
)
from pyro_ssbnn.data.wording import check_different
from pyro_ssbnn.errors import DataError

__all__ = ["ROWS", "columnar_names", "columnar_pieces", "columnar_rows", "columnar_table"]

ROWS = 2**16
"""Rows of a piece."""

_BUFFER = 2**16  # bytes of a file that are read at once


def columnar_names(files: Sequence[Path], format: str) -> list[str]:
    """Names of the columns that the files have together.

    :param format: "parquet" or "feather".
    :raises DataError: for files that cannot be read, or whose columns are of kinds that do not go together.
    """
    return list(_together(files, format)[0].names)


def columnar_rows(files: Sequence[Path], format: str) -> int:
    """Rows of the files together."""
    return _together(files, format)[1]


def columnar_pieces(files: Sequence[Path], format: str) -> Iterator[tuple[Table, float]]:
    """Rows of the files, one after another, each piece with the share of all rows that has been read with it."""
    import pyarrow as pa

    schema, whole = _together(files, format)
    read = 0
    name = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    try:
        for batch in _batches(files, format):
            table = pa.Table.from_batches([batch]).select(schema.names)
            frame = nw.from_native(written_out(table, schema), eager_only=True)
            rows = range(read, read + batch.num_rows)
            read += batch.num_rows
            yield Table(frame, name, "row", rows), min(1.0, read / max(whole, 1))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name}: not readable to its end ({str(error)[:200]}).") from error
    if not read:
        raise DataError(f"{name}: expected rows below the column names, found none.")


def columnar_table(file: Path, format: str) -> Any:
    """All of a file, as pyarrow's table.

    :raises DataError: for a file that holds far more than it is long.
    :raises ConfigurationError: for one that is larger than the memory.
    :raises Exception: what pyarrow raises for a damaged file.
    """
    if format == "parquet":
        from pyarrow import parquet

        check_parquet(file, whole=True)
        text = text_columns(parquet.read_metadata(file))
        table = parquet.read_table(file, read_dictionary=text)
        check_rows_read(file, table)
        return written_out(table, parquet.read_schema(file))
    from pyarrow import feather

    check_feather(file, whole=True)
    table = feather.read_table(file)
    check_rows_read(file, table)
    return written_out(table, table.schema)


def _batches(files: Sequence[Path], format: str) -> Iterator[Any]:
    """Rows of the files, as pyarrow's batches, each of one file; what is read ahead is memory, so nothing is."""
    from pyarrow import ipc, parquet

    for file in files:
        if format == "parquet":
            check_parquet(file, whole=False)
            text = text_columns(parquet.read_metadata(file))
            source = parquet.ParquetFile(file, read_dictionary=text, buffer_size=_BUFFER)
            found = source.iter_batches(ROWS, use_threads=False)
        else:
            check_feather(file, whole=False)
            source = ipc.open_file(file)
            found = map(source.get_batch, range(source.num_record_batches))
        with source:
            for batch in found:
                check_rows_read(file, batch)
                for start in range(0, batch.num_rows, ROWS):
                    yield batch.slice(start, ROWS)


def _together(files: Sequence[Path], format: str) -> tuple[Any, int]:
    """Columns of the files together, as pyarrow's schema, and their rows."""
    import pyarrow as pa
    from pyarrow import dataset

    try:
        schemas = [dataset.dataset(str(file), format=format).schema for file in files]
        for file, schema in zip(files, schemas, strict=True):
            check_different(str(file), schema.names)
            if set(schema.names) != set(schemas[0].names):
                only = sorted(set(schema.names) ^ set(schemas[0].names))
                raise DataError(
                    f"{file}: expected the columns of {files[0]}; {only[0]!r} is only in one of them. Give files of"
                    " one table."
                )
        together = pa.unify_schemas(schemas, promote_options="permissive")
        paths = [str(file) for file in files]
        return together, dataset.dataset(paths, format=format, schema=together).count_rows()
    except (pa.ArrowException, OSError) as error:
        which = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        raise DataError(
            f"{which}: not readable as {format} ({str(error)[:200]}). A file was damaged, is something else, or its"
            " columns are of other kinds than those of the rest."
        ) from error
