"""The codec of the plain AMQP client: whatever it writes it reads back, and whatever bytes come it reads."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from tests.support.amqp_codec import FIELD_TYPES, NUMBERS, Field, Reader, header_payload, read_header_payload, table

INTEGERS = {"b": 8, "s": 16, "I": 32, "l": 64, "B": 8, "u": 16, "i": 32, "T": 64}


def integers(letter: str) -> st.SearchStrategy[Field]:
    half = 2 ** (INTEGERS[letter] - 1)
    values = st.integers(-half, half - 1) if letter in "bsIl" else st.integers(0, 2 * half - 1)
    return st.tuples(st.just(letter), values)


names = st.binary(max_size=20).map(lambda name: name.decode("utf-8", "surrogateescape"))
leaves: st.SearchStrategy[Field] = st.one_of(
    *map(integers, INTEGERS),
    st.tuples(st.just("t"), st.booleans()),
    st.tuples(st.just("f"), st.floats(width=32, allow_nan=False)),
    st.tuples(st.just("d"), st.floats(allow_nan=False)),
    st.tuples(
        st.just("D"), st.builds(lambda v, s: Decimal(v).scaleb(-s), st.integers(0, 2**32 - 1), st.integers(0, 9))
    ),
    st.tuples(st.just("S"), st.text(st.characters(exclude_categories=["Cs"]))),
    st.tuples(st.just("x"), st.binary()),
    st.just(("V", None)),
)
fields: st.SearchStrategy[Field] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("A"), st.lists(inner, max_size=4)),
        st.tuples(st.just("F"), st.dictionaries(names, inner, max_size=4)),
    ),
)


@given(st.dictionaries(names, fields, max_size=6))
def test_tables_come_back(headers: dict[str, Field]) -> None:
    data = table(headers)

    assert Reader(data).table() == headers
    assert table(Reader(data).table()) == data


@given(st.binary(min_size=14), st.sampled_from([0, 1 << 13, 0xFFFF]))
def test_any_content_header_can_be_read(data: bytes, flags: int) -> None:
    """Never an error: what is no table is the bytes of it."""
    read_header_payload(data)
    read_header_payload(data[:12] + flags.to_bytes(2, "big") + data[14:])


@given(st.text(st.sampled_from(FIELD_TYPES + "?\x00\x01\x02\xff"), min_size=1))
def test_any_table_can_be_read(text: str) -> None:
    """Bytes that look like fields, more often than any bytes do."""
    data = text.encode("latin-1")
    flags, content = header_payload({}, {"a": ("F", data)})
    content_header = bytes(12) + flags.to_bytes(2, "big") + content

    read = read_header_payload(content_header)

    assert read.headers.keys() == {"a"}


def test_tables_nested_without_end_stay_bytes() -> None:
    """Reading them must not need Python's stack."""
    data = b""
    for _ in range(100_000 // 6):
        data = b"\1aF" + len(data).to_bytes(4, "big") + data

    assert table(Reader(table({"a": ("F", data)})).table()) == table({"a": ("F", data)})


def test_every_type_of_rabbitmq_is_known() -> None:
    assert set(FIELD_TYPES) == {*NUMBERS, *"tDSAFVx"}
    assert len(FIELD_TYPES) == 17


def test_what_can_be_read_of_a_broken_table_is_read() -> None:
    """The rest of it is one field with the letter `?`; what stands behind the table is not touched."""
    broken: dict[str, Field] = {
        "a": ("A", b"b\1S\0"),
        "b": ("F", b"\1ct\1\1dQ"),
        "c": ("F", b"\1dt\1\5e"),
        "d": ("B", 7),
    }

    assert Reader(table(broken)).table() == {
        "a": ("A", [("b", 1), ("?", b"S\0")]),
        "b": ("F", {"c": ("t", True), "d": ("?", b"Q")}),
        "c": ("F", {"d": ("t", True), "": ("?", b"\5e")}),
        "d": ("B", 7),
    }
