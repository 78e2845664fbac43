"""Making a topology exist, looking whether something does, and saying what is wrong in the operator's words.

Separate from the links because both kinds declare: consumers what they were asked to, and both the delay queues.
Each question that may be refused has a channel of its own, since a refusal closes the channel.
"""

from collections.abc import Sequence
from typing import TypeAlias

from pamqp import commands
from pamqp.base import Frame

from milvaion_trio.broker.link import Link, Refused, new_channel
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.ports import Binding, Exchange, Queue, QueueState, Topology

__all__ = ["declare", "exists", "states"]

Part: TypeAlias = Exchange | Queue | Binding


async def declare(link: Link, topology: Topology) -> None:
    """Make all of it exist, durable.

    Raises `SettingsError` with a line for each part that cannot be, when all others were declared, or `LinkLost`.
    If cancelled, any part may have been declared.
    """
    left: list[Part] = [*topology.exchanges, *topology.queues, *topology.bindings]
    failed: list[tuple[Part, Exception]] = []

    while left:
        try:
            async with new_channel(link) as channel:
                while left:
                    await link.ask(channel, _declaring(left[0]))
                    left.pop(0)
        except (Refused, ValueError, TypeError) as error:  # the latter two: a name that AMQP cannot carry
            failed.append((left.pop(0), error))
    if failed:
        raise SettingsError(_problems(failed))


async def exists(link: Link, what: Exchange | Queue) -> bool:
    """Whether there is an exchange or queue of this name. If cancelled, nothing changes."""
    try:
        async with new_channel(link) as channel:
            await link.ask(channel, _passive(what))
    except Refused as refused:
        # Refused for another reason (an exclusive queue of somebody else), it is there.
        return not refused.is_missing
    except (ValueError, TypeError):
        return False
    return True


async def states(link: Link, queues: Sequence[str]) -> list[QueueState]:
    """What the broker tells about each, up to the first that does not exist. If cancelled, nothing changes."""
    found: list[QueueState] = []
    try:
        async with new_channel(link) as channel:
            for queue in queues:
                answer = await link.ask(channel, _passive(Queue(queue)))
                assert isinstance(answer, commands.Queue.DeclareOk)
                found.append(QueueState(answer.message_count or 0, answer.consumer_count or 0))
    except (Refused, ValueError, TypeError) as error:
        if isinstance(error, Refused) and not error.is_missing:
            raise LinkLost(f"RabbitMQ does not tell about queue {queues[len(found)]!r}: {error}") from error
    return found


def _declaring(part: Part) -> Frame:
    match part:
        case Exchange(name, kind):
            return _ExchangeDeclare(exchange=name, exchange_type=kind, durable=True)
        case Queue(name, arguments):
            return _QueueDeclare(queue=name, durable=True, arguments=dict(arguments))
        case Binding(exchange, queue, key):
            return _QueueBind(queue=queue, exchange=exchange, routing_key=key)


def _passive(what: Exchange | Queue) -> Frame:
    if isinstance(what, Exchange):
        return _ExchangeDeclare(exchange=what.name, passive=True)
    return _QueueDeclare(queue=what.name, passive=True)


def _problems(failed: Sequence[tuple[Part, Exception]]) -> list[str]:
    """One line each; one for all that a user lacks permission for, without what is missing only because of that."""
    forbidden = [(part, error) for part, error in failed if isinstance(error, Refused) and error.is_forbidden]
    if len(forbidden) < 2:
        return [_problem(part, error) for part, error in failed]
    names = ", ".join(_named(part) for part, _ in forbidden)
    one = (
        f"The user of Worker:RabbitMQ:Username may not declare what a worker needs: {names}. RabbitMQ says: "
        f"{forbidden[0][1]}. Give the user configure, write and read permission for them: rabbitmqctl set_permissions "
        "-p VHOST USER '.*' '.*' '.*' allows everything in a virtual host."
    )
    others = [
        _problem(part, error)
        for part, error in failed
        if not (isinstance(error, Refused) and (error.is_forbidden or (error.is_missing and isinstance(part, Binding))))
    ]
    return [one, *others]


def _named(part: Part) -> str:
    match part:
        case Exchange(name):
            return f"exchange {name!r}"
        case Queue(name):
            return f"queue {name!r}"
        case Binding(exchange, queue):
            return f"the binding of queue {queue!r} to exchange {exchange!r}"


def _problem(part: Part, error: Exception) -> str:
    match part:
        case Exchange(name, kind):
            what, permission = f"Exchange {name!r} ({kind})", "configure"
        case Queue(name):
            what, permission = f"Queue {name!r}", "configure"
        case Binding(exchange, queue, key):
            what, permission = f"The binding of queue {queue!r} to exchange {exchange!r} with key {key!r}", "write"
    if not isinstance(error, Refused):
        return f"{what} cannot be declared: {error}."
    if error.is_different:
        return (
            f"{what} exists, but was declared in another way: {error}. "
            "Declare it the same way everywhere, or delete it (its messages go with it) and start again."
        )
    if error.is_forbidden:
        return (
            f"{what} may not be declared: {error}. "
            f"Give the user of Worker:RabbitMQ:Username {permission} permission for it (rabbitmqctl set_permissions)."
        )
    if error.is_missing:
        return f"{what} cannot be declared, because something in it does not exist: {error}."
    return f"{what} cannot be declared: {error}."


# pamqp allows names of some letters only; RabbitMQ takes any, and so do the names of jobs.


class _ExchangeDeclare(commands.Exchange.Declare):
    def validate(self) -> None:
        """Any name will do."""


class _QueueDeclare(commands.Queue.Declare):
    def validate(self) -> None:
        """Any name will do."""


class _QueueBind(commands.Queue.Bind):
    def validate(self) -> None:
        """Any name will do."""
