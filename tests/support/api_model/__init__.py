"""A strict double of the Milvaion API. `server` runs it on a real RabbitMQ; everything else is without I/O."""

from tests.support.api_model.database import FailureType, OccurrenceStatus
from tests.support.api_model.dispatcher import Dispatch, Sender
from tests.support.api_model.findings import Rule
from tests.support.api_model.model import ApiModel
from tests.support.api_model.settings import ApiSettings, Generation
from tests.support.api_model.wire_message import Settlement, Verdict, WireMessage

__all__ = [
    "ApiModel",
    "ApiSettings",
    "Dispatch",
    "FailureType",
    "Generation",
    "OccurrenceStatus",
    "Rule",
    "Sender",
    "Settlement",
    "Verdict",
    "WireMessage",
]
