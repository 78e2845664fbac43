"""However long a delay is, the journey over the ladder takes that long and ends at the target."""

import math

from hypothesis import given
from hypothesis import strategies as st

from milvaion_trio.broker.ladder import RUNGS, first_rung, rung_name, rungs
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.topology import HOP_QUEUE
from milvaion_trio.policy.hops import onward

DELAYS = st.floats(min_value=0.001, max_value=30 * 86_400)
NAMES = {rung_name(seconds): seconds for seconds in RUNGS}


@given(DELAYS)
def test_rungs_add_up_to_the_delay_rounded_up(delay: float) -> None:
    found = rungs(delay)

    assert sum(found) == math.ceil(delay)
    assert list(found) == sorted(found, reverse=True)


@given(st.floats(0.001, 7200), st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3))
def test_the_journey_goes_over_these_rungs_and_ends_at_the_target(delay: float, headers: dict[str, object]) -> None:
    message = Message(body=b"job", message_id="id", headers=headers)
    publication, journey = Publication(message, "jobs", delay=delay), []

    while publication.delay > 0:
        published = first_rung(publication)
        journey.append(NAMES[published.exchange])
        if published.routing_key != HOP_QUEUE:
            assert published == Publication(message, "jobs", published.exchange)
            break
        onwards = onward(published.message)
        assert onwards is not None
        publication = onwards

    assert tuple(journey) == rungs(delay)
