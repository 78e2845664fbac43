"""Which frames answer for the messages of a channel."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp import frame as pamqp_frame

from milvaion_trio.broker.rabbitmq.settling import Answer, Settlements

ACK, REQUEUE, REJECT = Answer.ACK, Answer.REQUEUE, Answer.REJECT


class Broker:
    """The channel as RabbitMQ keeps it: what is out, and what was said about it."""

    def __init__(self) -> None:
        self.out: set[int] = set()
        self.answers: dict[int, Answer] = {}
        self.frames = 0

    def read(self, data: bytes) -> None:
        while data:
            size, channel, method = pamqp_frame.unmarshal(data)
            assert channel == 7
            assert isinstance(method, commands.Basic.Ack | commands.Basic.Nack)
            tag = method.delivery_tag or 0
            assert tag in self.out, "PRECONDITION_FAILED - unknown delivery tag"
            answer = ACK
            if isinstance(method, commands.Basic.Nack):
                answer = REQUEUE if method.requeue else REJECT
            for one in {each for each in self.out if each <= tag} if method.multiple else {tag}:
                self.out.remove(one)
                self.answers[one] = answer
            self.frames += 1
            data = data[size:]


ANSWERS = st.tuples(st.integers(0, 3), st.sampled_from([ACK, ACK, REQUEUE, REJECT]))


@given(st.lists(st.one_of(st.just("come"), st.just("come"), ANSWERS, ANSWERS, st.just("write")), min_size=5))
@settings(max_examples=300)
def test_every_message_gets_its_own_answer(steps: list[str | tuple[int, Answer]]) -> None:
    """Whatever the order, and with each write all that was answered before: nothing waits for others."""
    settlements, broker = Settlements(7), Broker()
    waiting: list[int] = []
    given_: dict[int, Answer] = {}
    came = 0
    for step in [*steps, "write"]:
        match step:
            case "come":
                came += 1
                settlements.came(came)
                broker.out.add(came)
                waiting.append(came)
            case (number, answer) if waiting:
                tag = waiting.pop(number % len(waiting))
                settlements.answer(tag, answer)
                given_[tag] = answer
            case "write":
                broker.read(settlements.frames())
                assert broker.answers == given_
    assert broker.out == set(waiting)


@pytest.mark.parametrize("answer", Answer)
def test_what_ends_together_is_answered_in_one_frame(answer: Answer) -> None:
    settlements, broker = Settlements(7), Broker()
    for tag in range(1, 10_001):
        settlements.came(tag)
        broker.out.add(tag)
    for tag in range(10_000, 0, -1):
        settlements.answer(tag, answer)

    broker.read(settlements.frames())

    assert (broker.frames, broker.out) == (1, set())


def test_no_frame_answers_for_a_message_that_nobody_got_to_see() -> None:
    """One too large to be taken is out as well; acked along with its neighbours it would be lost."""
    settlements, broker = Settlements(7), Broker()
    for tag in (1, 2, 3, 4):
        settlements.came(tag)
        broker.out.add(tag)
    for tag in (1, 3, 4):
        settlements.answer(tag, ACK)

    broker.read(settlements.frames())

    assert broker.out == {2}


def test_only_the_first_answer_since_the_last_write_is_told() -> None:
    """The link is asked to write once, however many there are."""
    settlements = Settlements(7)
    for tag in (1, 2, 3):
        settlements.came(tag)

    assert [settlements.answer(1, ACK), settlements.answer(2, ACK)] == [True, False]
    settlements.frames()
    assert settlements.answer(3, ACK)


def test_a_job_that_takes_long_costs_the_others_nothing() -> None:
    """What came behind it and was answered is forgotten."""
    settlements = Settlements(7)
    settlements.came(1)
    for tag in range(2, 100_000):
        settlements.came(tag)
        settlements.answer(tag, ACK)
        settlements.frames()

    assert len(settlements._open) == 1
