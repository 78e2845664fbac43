"""The message vectors of WIRE.md 15, published as they stand there by the plain client."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support.amqp import Channel
from tests.support.amqp_codec import Field

__all__ = ["VECTORS", "publish_vector", "vector", "vector_headers"]

VECTORS: Final = Path(__file__).parents[1] / "wire" / "vectors"


def vector(name: str) -> Mapping[str, object]:
    """The vector of that name, e.g. `job_dispatch`."""
    return _mapping(json.loads((VECTORS / f"{name}.json").read_text("utf-8")))


def vector_headers(headers: Mapping[str, object]) -> dict[str, Field]:
    """The headers of a vector, `{"type": …, "value": …}` on every level, as this client takes them."""
    return {name: _vector_field(value) for name, value in headers.items()}


async def publish_vector(
    client: Channel, vector: Mapping[str, object], *, exchange: str | None = None, routing_key: str | None = None
) -> bool:
    """Publish a vector of WIRE.md 15 byte for byte, to where it says unless told otherwise; false when unroutable.

    Cancelled: see `Channel`.
    """
    properties = dict(_mapping(vector["properties"]))
    headers = properties.pop("headers", None)
    return await client.publish(
        str(vector["exchange"]) if exchange is None else exchange,
        str(vector["routing_key"]) if routing_key is None else routing_key,
        str(vector["body_raw"]).encode(),
        properties,
        None if headers is None else vector_headers(_mapping(headers)),
    )


def _vector_field(header: object) -> Field:
    letter, value = str(_mapping(header)["type"]), _mapping(header)["value"]
    if letter == "F":
        return letter, vector_headers(_mapping(value))
    if letter == "A" and isinstance(value, list):
        return letter, [_vector_field(item) for item in value]
    return letter, value


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no object")
    return value
