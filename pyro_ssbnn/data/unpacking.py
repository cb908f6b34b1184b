"""What parquet and feather files take once they are unpacked: bounded by what they are, before that happens.

A column of one value takes next to no room in such a file, and text is written once however many rows have it. So text
is read with its distinct values apart (as a dictionary), which is how it stands in the file, and counted before it is
written out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_ssbnn.checks import require_memory
from pyro_ssbnn.data.files import check_unpacked
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.files.arrow import unpacked_batches
from pyro_ssbnn.files.parquet import unpacked_groups

__all__ = ["check_feather", "check_parquet", "check_rows_read", "text_columns", "written_out"]

_VALUE = 8  # bytes of a number


def check_parquet(file: Path, *, whole: bool) -> None:
    """Refuse a parquet file that says that it holds much more than tables ever do.

    :param whole: whether all of it is to be read at once, or its row groups one after another.
    :raises DataError: for one that holds far more than it is long.
    :raises ConfigurationError: for one whose table is larger than the memory.
    """
    from pyarrow import parquet

    metadata = parquet.read_metadata(file)
    held = unpacked_groups(file, metadata)
    if not whole:
        check_unpacked(file, max(held, default=0))
        return
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    values = max(
        metadata.num_rows * metadata.num_columns,
        sum(group.column(i).num_values for group in groups for i in range(group.num_columns)),
    )
    require_memory(str(file), _VALUE * values, "the table", "Read a part of it in Python.")
    check_unpacked(file, max(sum(held), _VALUE * values))


def check_feather(file: Path, *, whole: bool) -> None:
    """Refuse a feather file that says that it holds much more than tables ever do, see :func:`check_parquet`."""
    dictionaries, batches = unpacked_batches(file)
    held = dictionaries + (sum(batches) if whole else max(batches, default=0))
    check_unpacked(file, held)
    require_memory(str(file), held, "the table", "Read a part of it in Python.")


def text_columns(metadata: Any) -> list[str]:
    """Paths of the columns of a parquet file that are text, which is to be read as dictionaries."""
    columns = (metadata.schema.column(i) for i in range(metadata.num_columns))
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def written_out(table: Any, schema: Any) -> Any:
    """A table in the kinds of its schema: text where it was read as dictionaries, whose words have been counted."""
    import pyarrow as pa
    from pyarrow import types

    is_binary = (types.is_binary, types.is_large_binary, types.is_binary_view)
    columns = []
    for column, kind in zip(table.columns, schema.types, strict=True):
        if types.is_dictionary(kind) and _is_view(
            kind.value_type
        ):  # of which pyarrow makes no text
            columns.append(pa.chunked_array([_without_views(chunk) for chunk in column.chunks]))
            continue
        if types.is_dictionary(column.type) and not types.is_dictionary(kind):
            kind = pa.large_binary() if any(one(kind) for one in is_binary) else pa.large_string()
        columns.append(column if types.is_nested(kind) else column.cast(kind))
    return pa.Table.from_arrays(columns, names=schema.names)


def _without_views(words: Any) -> Any:
    import pyarrow as pa

    kind = (
        pa.large_string() if pa.types.is_string_view(words.dictionary.type) else pa.large_binary()
    )
    return pa.DictionaryArray.from_arrays(words.indices, words.dictionary.cast(kind))


def check_rows_read(file: Path, rows: Any) -> None:
    """Refuse rows whose text would take much more than the file when it is written out, or that are damaged.

    :param rows: pyarrow's table or batch.
    :raises DataError: for these, and for columns of kinds that hold values many times over.
    """
    rows.validate(
        full=True
    )  # places in text, codes in dictionaries: else anything in memory could be read
    for name, kind in zip(rows.schema.names, rows.schema.types, strict=True):
        if _repeats(kind):
            raise DataError(
                f"{file}: the column {name!r} is of Arrow's kind {kind}, which is not read. Write it as plain numbers"
                " or text."
            )
    columns = (getattr(column, "chunks", [column]) for column in rows.columns)
    check_unpacked(file, sum(_text(chunk) for chunks in columns for chunk in chunks))


def _repeats(kind: Any) -> bool:
    """Whether values may stand for many others, other than words in a dictionary."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return types.is_nested(kind.value_type) or types.is_dictionary(kind.value_type)
    if types.is_run_end_encoded(kind):
        return not types.is_primitive(kind.value_type)
    if types.is_union(kind) or types.is_list_view(kind) or types.is_large_list_view(kind):
        return True
    if types.is_map(kind):
        return _repeats(kind.key_type) or _repeats(kind.item_type)
    if types.is_struct(kind):
        return any(_repeats(kind.field(i).type) for i in range(kind.num_fields))
    return types.is_nested(kind) and _repeats(kind.value_type)


def _text(values: Any) -> int:
    """Bytes of the text that comes of dictionaries and views, each word as often as it stands there."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(values, pa.ExtensionArray):
        return _text(values.storage)
    if types.is_dictionary(values.type):
        codes = values.indices.drop_null().to_numpy(zero_copy_only=False)
        times = np.bincount(codes.astype(np.int64), minlength=len(values.dictionary))
        return int(times.astype(np.float64) @ _lengths(values.dictionary))
    if types.is_struct(values.type):
        return sum(_text(values.field(i)) for i in range(values.type.num_fields))
    if types.is_nested(values.type) and not types.is_run_end_encoded(values.type):
        return _text(values.flatten() if not types.is_map(values.type) else values.values)
    return int(_lengths(values).sum()) if _is_view(values.type) else 0


def _lengths(values: Any) -> NDArray[np.float64]:
    """Bytes of each value of text, ``[N]``; of another kind few."""
    import pyarrow.compute as pc
    from pyarrow import types

    kind = values.type
    if _is_view(kind):  # sixteen bytes a value, of which the first four are its length
        records = np.frombuffer(values.buffers()[1] or b"", np.int32)[::4]
        found = records[values.offset : values.offset + len(values)].astype(np.float64)
        return np.where(values.is_null().to_numpy(zero_copy_only=False), 0, found)
    text = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    if any(one(kind) for one in text):
        return pc.binary_length(values).fill_null(0).to_numpy(zero_copy_only=False).astype(float)
    return np.full(len(values), float(_VALUE))


def _is_view(kind: Any) -> bool:
    from pyarrow import types

    return types.is_string_view(kind) or types.is_binary_view(kind)
