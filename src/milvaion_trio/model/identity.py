"""Who a worker is in its messages."""

from attrs import frozen

from milvaion_trio.model.ids import InstanceId, WorkerId
from milvaion_trio.model.wire import Dialect

__all__ = ["Identity"]


@frozen(kw_only=True)
class Identity:
    """The names under which one process of a worker group reports."""

    worker_id: WorkerId
    instance_id: InstanceId
    dialect: Dialect
