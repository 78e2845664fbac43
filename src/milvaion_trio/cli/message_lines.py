"""A published message as one line of JSON, for people with `jq` and for tests.

Separate from the protocol because `dev --messages` prints the same lines.
"""

import json

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.wire import decode_logs

__all__ = ["message_line", "occurrences_of"]


def message_line(publication: Publication) -> str:
    """The message's destination, headers and body; `delay` where it waits in the broker first.

    The body stands in the line as it travelled, byte for byte, if it is JSON without line breaks; else as a text.
    """
    message = publication.message
    to = {"exchange": publication.exchange} if publication.exchange else {"queue": publication.routing_key}
    facts: dict[str, object] = {**to, "routing_key": publication.routing_key, "headers": dict(message.headers)}
    if publication.delay:
        facts["delay"] = publication.delay
    # What job code or another program put into a header may have no JSON form; it is only shown here.
    return f'{json.dumps(facts, default=str)[:-1]}, "body": {_embedded(message.body)}}}'


def _embedded(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps(text)
    return text if "\n" not in text and "\r" not in text else json.dumps(text)


def occurrences_of(publication: Publication) -> frozenset[OccurrenceId]:
    """The occurrences that a published message is about."""
    if publication.routing_key == topology.LOGS_QUEUE:
        try:
            return frozenset(record.occurrence_id for record in decode_logs(publication.message.body).logs)
        except InvalidMessage:
            return frozenset()
    found = headers.occurrence_id(publication.message)
    return frozenset() if found is None else frozenset((found,))
