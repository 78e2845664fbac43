"""Which adapter the settings ask for: where they name no server, everything stays in this process."""

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.ports import Broker, Signals
from milvaion_trio.signals.local import LocalSignals

__all__ = ["broker_for", "signals_for"]


def broker_for(settings: WorkerSettings, client_name: str) -> Broker:
    """The broker of these settings; nothing is connected. `client_name` is shown by RabbitMQ's own tools."""
    if settings.rabbitmq is None:
        return EmbeddedBroker()
    from milvaion_trio.broker.aiopika import AioPikaBroker  # an asyncio loop and 20 MB, for those who ask for it

    return AioPikaBroker(settings.rabbitmq, client_name=client_name)


def signals_for(settings: WorkerSettings) -> Signals:
    """Where these settings say that cancel signals come from; nothing is connected."""
    if settings.redis is None:
        return LocalSignals()
    from milvaion_trio.signals.redis import RedisSignals

    return RedisSignals(settings.redis)
