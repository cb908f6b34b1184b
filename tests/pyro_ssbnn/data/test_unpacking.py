"""Parquet and feather files that hold far more than they are long: refused before any of it is unpacked."""

import random
import struct
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from pyro_ssbnn.data import read_table, table_pieces
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.files.arrow import unpacked_batches
from pyro_ssbnn.files.parquet import unpacked_groups

MANY = 20_000_000
WORDS = ["low", "a much longer one", None] * 4
PYARROW = int(pa.__version__.partition(".")[0])


def same(value, number=2_000):
    """A column of one value, whose words are apart in memory, too."""
    codes = pa.array(np.zeros(number, np.int32))
    return pa.DictionaryArray.from_arrays(codes, pa.array([value]))


def runs(value, number):
    return pa.RunEndEncodedArray.from_arrays(pa.array([number], pa.int32()), pa.array([value]))


def views(number):
    word = pa.array(["x" * 10**6]).cast(pa.string_view())
    return pa.concat_arrays([word] * number)


def write(path, columns, **options):
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path, **options)
    else:
        pa.feather.write_feather(table, path, chunksize=table.num_rows, **options)
    return path


OWN, POOLS = pa.default_memory_pool(), []  # what is allocated in a pool must not outlive it


ONE_PAGE = {"use_dictionary": False, "data_page_size": 2**30, "row_group_size": 10**8}


def varint(number):
    """A whole number as Thrift writes it."""
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def padded(number, length):
    """The same, as long as another."""
    short = varint(number)
    return bytes(byte | 128 for byte in short) + b"\x80" * (length - len(short) - 1) + b"\0"


@pytest.fixture
def unpacked():
    """Most bytes that Arrow has held since."""
    pool = pa.proxy_memory_pool(OWN)
    POOLS.append(pool)
    pa.set_memory_pool(pool)
    yield pool.max_memory
    pa.set_memory_pool(OWN)


BOMBS = {
    "zeros.feather": lambda: {"a": np.zeros(MANY * 2), "y": np.zeros(MANY * 2)},
    "gaps.feather": lambda: {"a": pa.nulls(10**9), "y": pa.nulls(10**9)},
    "runs.feather": lambda: {"a": runs(1.0, 10**9)},
    "runs of words.feather": lambda: {"a": runs("x" * 10**6, 2_000)},
    "words.feather": lambda: {"a": same("x" * 10**6)},
    "words.parquet": lambda: {"a": same("x" * 10**6)},
    "text.parquet": lambda: {"a": pa.array(["x" * 10**6] * 400)},
    "bytes.parquet": lambda: {"a": pa.array([b"x" * 10**6] * 400)},
    "lists.parquet": lambda: {"a": pa.array([["x" * 10**6] * 4] * 100)},
    "records.parquet": lambda: {"a": pa.array([{"b": "x" * 10**6}] * 400)},
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("whole", [True, False])
def test_bombs_are_refused_before_they_are_unpacked(tmp_path, name, whole, request):
    path = write(tmp_path / name, BOMBS[name](), compression="zstd")
    length = path.stat().st_size
    assert length < 300_000
    most = request.getfixturevalue("unpacked")
    with pytest.raises(DataError, match=r"a packed file of [\d,]+ bytes holds|which is not read"):
        read_table(path) if whole else list(table_pieces(path))
    assert most() < 16 << 20


@pytest.mark.parametrize("whole", [True, False])
def test_a_column_of_one_value_takes_what_its_rows_take(tmp_path, unpacked, whole):
    """Rows of a file that is read in pieces may be as many as it likes."""
    gaps = pa.nulls(MANY * 2, pa.float64())
    path = write(tmp_path / "gaps.parquet", {"a": gaps}, row_group_size=10**7)
    if whole:
        with pytest.raises(DataError, match="holds 320,000,000 bytes"):
            read_table(path)
        return
    before = unpacked()
    pieces = table_pieces(path)
    assert len(next(pieces)[0]) == 2**16
    assert unpacked() - before < 16 << 20
    pieces.close()


@pytest.mark.parametrize("packing", ["uncompressed", "lz4", "zstd"])
def test_headers_say_what_arrow_will_hold(tmp_path, packing):
    rows = np.random.default_rng(0).normal(size=10_000)
    table = pa.table({"a": rows, "b": rows.round(), "c": pa.array(WORDS * 834)[:10_000]})
    path = tmp_path / "t.feather"
    pa.feather.write_feather(table, path, compression=packing, chunksize=3_000)
    dictionaries, batches = unpacked_batches(path)
    with pa.ipc.open_file(path) as reader:
        held = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    assert dictionaries == 0
    assert batches == [
        sum(buffer.size for column in batch.columns for buffer in column.buffers() if buffer)
        for batch in held
    ]


@pytest.mark.parametrize("packing", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_say_what_the_footer_sums_up(tmp_path, packing, version):
    rows = np.random.default_rng(0).normal(size=10_000)
    words = pa.array([f"{'long ' * 900}{i % 7}" for i in range(10_000)])
    table = pa.table({"a": rows, "b": rows.round(), "c": words, "d": pa.nulls(10_000, pa.int8())})
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(
        table,
        path,
        compression=packing,
        data_page_version=version,
        data_page_size=2_000,
        row_group_size=4_000,
        write_page_index=version == "2.0",
    )
    metadata = pa.parquet.read_metadata(path)
    for group, found in zip(range(3), unpacked_groups(path, metadata), strict=True):
        columns = [metadata.row_group(group).column(i) for i in range(4)]
        summed = sum(column.total_uncompressed_size for column in columns)
        assert 0 < summed - found < 0.1 * summed  # the headers, which the footer counts, too


def test_a_page_is_as_long_as_its_header_says(tmp_path, unpacked):
    """A footer that says less than the pages do: ``total_uncompressed_size``, a varint, is changed in it."""
    path = write(tmp_path / "t.parquet", {"a": np.zeros(MANY * 2)}, compression="zstd", **ONE_PAGE)
    summed = pa.parquet.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer, told = content[start:], varint(2 * summed)
    assert told in footer
    path.write_bytes(content[:start] + footer.replace(told, padded(200, len(told))))
    assert pa.parquet.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 100
    before = unpacked()
    for read in (read_table, lambda file: list(table_pieces(file))):
        with pytest.raises(DataError, match=r"holds 3\d\d,\d+,\d+ bytes"):
            read(path)
    assert unpacked() - before < 16 << 20


def test_a_length_that_is_made_up_is_not_allocated(tmp_path, unpacked):
    path = write(tmp_path / "t.feather", {"a": np.arange(1000.0)}, compression="zstd")
    told, made_up = struct.pack("<q", 8_000), struct.pack("<q", 1 << 40)
    content = path.read_bytes()
    assert content.count(told) == 1
    path.write_bytes(content.replace(told, made_up))
    for read in (read_table, lambda file: list(table_pieces(file))):
        with pytest.raises(DataError, match="holds 1,099,511,627,776 bytes"):
            read(path)
    assert unpacked() < 1 << 20


@pytest.mark.parametrize("at", [-1, 1 << 20])
def test_places_outside_a_text_are_not_looked_at(tmp_path, at):
    path = write(tmp_path / "t.feather", {"a": ["one", "two", "six"]}, compression="uncompressed")
    places = struct.pack("<4i", 0, 3, 6, 9)
    content = path.read_bytes()
    assert content.count(places) == 1
    path.write_bytes(content.replace(places, struct.pack("<4i", 0, 3, at, 9)))
    for read in (read_table, lambda file: list(table_pieces(file))):
        with pytest.raises(DataError, match="not readable"):
            read(path)


COLUMNS = {
    "text": pa.array(WORDS),
    "large text": pa.array(WORDS, pa.large_string()),
    "views": pa.array(WORDS).cast(pa.string_view()),
    "words": pa.array(WORDS).dictionary_encode(),
    "words of views": pa.DictionaryArray.from_arrays(  # as polars writes them
        pa.array([0, 1, None] * 4, pa.uint32()), pa.array(["low", "high"]).cast(pa.string_view())
    ),
    "bytes": pa.array([b"one", None] * 6),
    "decimals": pa.array([Decimal("1.5")] * 12),
    "lists": pa.array([["a", "b"], None] * 6),
    "maps": pa.array([[("a", "b")]] * 12, pa.map_(pa.string(), pa.string())),
    "records": pa.array([{"b": "c"}] * 12),
    "runs": runs(1.5, 12),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_what_is_read_is_what_was_written(tmp_path, kind, ending):
    if kind in ("runs", "words of views") and ending == "parquet":
        pytest.skip("parquet files have no such columns")
    if (kind == "words of views" and PYARROW < 25) or (kind == "views" and PYARROW < 21):
        pytest.skip("this pyarrow cannot write such columns, and may end the process")
    path = write(tmp_path / f"t.{ending}", {"a": COLUMNS[kind], "y": range(12)})
    ((piece, _),) = table_pieces(path)
    for table in (read_table(path), piece):
        assert table.frame["a"].to_list() == COLUMNS[kind].to_pylist()
        assert len(table.column("a")) == 12


@pytest.mark.parametrize(
    ("ending", "packing"),
    [("feather", "uncompressed"), ("feather", "lz4"), ("parquet", "none"), ("parquet", "zstd")],
)
def test_any_change_is_told_or_does_no_harm(tmp_path, ending, packing):
    columns = {"a": np.arange(40.0), "b": pa.array(WORDS * 4)[:40], "c": same("word", 40)}
    path = write(tmp_path / f"t.{ending}", columns, compression=packing)
    content, generator, told = path.read_bytes(), random.Random(11), 0
    for _ in range(200):
        at = generator.randrange(len(content))
        path.write_bytes(content[:at] + generator.randbytes(4) + content[at + 4 :])
        for read in (read_table, lambda file: list(table_pieces(file))):
            try:
                read(path)
            except DataError:
                told += 1
    assert told > 0
