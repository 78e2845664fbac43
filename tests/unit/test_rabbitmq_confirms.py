"""Which answer belongs to which publish."""

from milvaion_trio.broker.rabbitmq.confirms import Batch, Confirms
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.ports import Confirmation

CONFIRMED, REFUSED, UNROUTABLE = Confirmation.CONFIRMED, Confirmation.REFUSED, Confirmation.UNROUTABLE
MESSAGE = Message(body=b"", message_id="id")
A, B = Publication(MESSAGE, "a"), Publication(MESSAGE, "b")


class World:
    """Confirms, with batches that are counted when they are done."""

    def __init__(self) -> None:
        self.confirms = Confirms()
        self.done = 0

    def batch(self, *sent: Publication) -> Batch:
        batch = Batch([None] * len(sent), self._done)
        for index, one in enumerate(sent):
            self.confirms.add(one, batch, index)
        return batch

    def returned(self, what: Publication) -> None:
        self.confirms.returned(what.exchange, what.routing_key, what.message)

    def _done(self) -> None:
        self.done += 1


def test_numbers_count_across_batches() -> None:
    world = World()
    one, two = world.batch(A, A), world.batch(A)

    world.confirms.confirmed(3, multiple=False, is_stored=True)
    assert (two.answers, world.done) == ([CONFIRMED], 1)
    world.confirms.confirmed(2, multiple=False, is_stored=False)
    world.confirms.confirmed(1, multiple=False, is_stored=True)

    assert (one.answers, world.done) == ([CONFIRMED, REFUSED], 2)
    assert len(world.confirms) == 0


def test_one_answer_can_be_for_all_before() -> None:
    world = World()
    batch = world.batch(A, A, A)

    world.confirms.confirmed(2, multiple=True, is_stored=True)

    assert batch.answers == [CONFIRMED, CONFIRMED, None]


def test_a_returned_message_is_unroutable_though_it_is_confirmed() -> None:
    world = World()
    batch = world.batch(A, B, A)

    world.returned(B)
    world.confirms.confirmed(3, multiple=True, is_stored=True)

    assert batch.answers == [CONFIRMED, UNROUTABLE, CONFIRMED]


def test_of_equal_messages_the_first_that_waits_was_returned() -> None:
    """The queue may have been deleted and made again in between; the broker answers in order."""
    world = World()
    batch = world.batch(A, A, A, A)

    world.confirms.confirmed(1, multiple=False, is_stored=True)
    world.returned(A)
    world.returned(A)
    world.confirms.confirmed(4, multiple=True, is_stored=True)

    assert batch.answers == [CONFIRMED, UNROUTABLE, UNROUTABLE, CONFIRMED]


def test_what_was_returned_is_told_by_its_exchange_too() -> None:
    world = World()
    batch = world.batch(Publication(MESSAGE, "a", "x"), Publication(MESSAGE, "a", "y"))

    world.returned(Publication(MESSAGE, "a", "y"))
    world.confirms.confirmed(2, multiple=True, is_stored=True)

    assert batch.answers == [CONFIRMED, UNROUTABLE]


def test_what_has_no_id_is_known_again() -> None:
    world = World()
    nameless = Publication(Message(body=b""), "a")
    batch = world.batch(nameless)

    world.returned(nameless)
    world.confirms.confirmed(1, multiple=False, is_stored=True)

    assert batch.answers == [UNROUTABLE]


def test_an_id_that_was_cut_on_the_way_is_known_again() -> None:
    """A short string has 255 bytes: what comes back is shorter than what was asked for."""
    world = World()
    batch = world.batch(A, Publication(Message(body=b"", message_id="x" * 300), "a"))

    world.returned(Publication(Message(body=b"", message_id="x" * 255), "a"))
    world.confirms.confirmed(2, multiple=True, is_stored=True)

    assert batch.answers == [CONFIRMED, UNROUTABLE]


def test_answers_given_beforehand_are_not_waited_for() -> None:
    done: list[None] = []
    Batch([UNROUTABLE], lambda: done.append(None))
    Batch([], lambda: done.append(None))

    assert len(done) == 2


def test_a_lost_link_answers_nothing_more() -> None:
    world = World()
    batch = world.batch(A, B)
    world.confirms.confirmed(1, multiple=False, is_stored=True)

    world.confirms.lost()
    world.confirms.confirmed(2, multiple=False, is_stored=True)
    world.returned(B)

    assert batch.answers == [CONFIRMED, None]
    assert world.done >= 1


def test_answers_to_publishes_nobody_waits_for_are_taken() -> None:
    """A cancelled publish leaves its numbers behind."""
    world = World()
    world.batch(A)
    waited_for = world.batch(A)

    world.confirms.confirmed(2, multiple=True, is_stored=True)

    assert waited_for.answers == [CONFIRMED]
