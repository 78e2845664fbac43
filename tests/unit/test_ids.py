"""Only a dashed guid that names something is an id (WIRE.md 0.1)."""

import pytest

from milvaion_trio.model.ids import parse_guid

GUID = "019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"


@pytest.mark.parametrize("text", [GUID, GUID.upper(), GUID.title()])
def test_guid_is_read_as_lower_case(text: str) -> None:
    assert parse_guid(text) == GUID


@pytest.mark.parametrize(
    "value",
    [
        "",
        "any",
        GUID[:-1],
        GUID + "0",
        GUID + "\n",
        " " + GUID,
        GUID.replace("-", ""),
        f"{{{GUID}}}",
        GUID.replace("0", "\u0660"),
        GUID.replace("0", "g"),
        GUID.replace("-", "_"),
        "00000000-0000-0000-0000-000000000000",
        None,
        7,
        1.5,
        True,
        GUID.encode(),
        [GUID],
    ],
    ids=repr,
)
def test_anything_else_is_no_guid(value: object) -> None:
    assert parse_guid(value) is None
