"""Where the jobs of a round lie: a virtual host of the private RabbitMQ, or the private Redis, emptied before.

Both are filled with what the peer's own program enqueues, and both can put single jobs into the queue right after a
stamp, without the peer's client.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from benchmarks.peers.copies import copies
from benchmarks.peers.raw import RawAmqp, RawMessage
from benchmarks.peers.raw_redis import RawRedis
from tests.support.servers import HOST, RabbitMQServer, RedisServer

__all__ = ["Enqueue", "RabbitMQStore", "RedisStore", "States", "Store"]

Enqueue = Callable[[int], None]
"""Has the peer's program enqueue so many jobs."""


class Store(Protocol):
    """What a round needs of it."""

    url: str
    vhost: str
    pid: int
    """The server's process."""

    def weigh(self, enqueue: Enqueue) -> int:
        """The size of one job's message, which is taken away again."""

    def fill(self, count: int, enqueue: Enqueue, queue: str | None = None) -> None:
        """Have so many more jobs in the queue; none prepares it, so that a worker may run when more are put in."""

    def posts(self, count: int, enqueue: Enqueue) -> list[Callable[[], None]]:
        """So many calls that put one job each into the queue, which is empty."""

    def left(self) -> int:
        """Jobs that nobody took, or that came back."""

    def close(self) -> None:
        """Remove what is left."""


class RabbitMQStore:
    """A virtual host, whose queues are of that type unless a program says otherwise."""

    def __init__(self, server: RabbitMQServer, queue: str, queue_type: str) -> None:
        self._server, self._queue = server, queue
        if queue_type == "classic":
            self.vhost = server.new_vhost()
        else:
            self.vhost = f"bench-{time.monotonic_ns()}"
            server.control("add_vhost", self.vhost, "--default-queue-type", queue_type)
            server.control("set_permissions", "-p", self.vhost, "guest", ".*", ".*", ".*")
        self.url = f"amqp://guest:guest@{HOST}:{server.port}/{self.vhost}"
        self.pid = server.pid
        self._connection = RawAmqp(server.port, self.vhost)
        self._poster: RawAmqp | None = None
        self._templates: dict[str, RawMessage] = {}

    def weigh(self, enqueue: Enqueue) -> int:
        """See `Store`."""
        size = len(self._template(enqueue, self._queue).body)
        self._templates.clear()
        return size

    def fill(self, count: int, enqueue: Enqueue, queue: str | None = None) -> None:
        """See `Store`; copies of one."""
        queue = queue or self._queue
        self._connection.fill(queue, copies(self._template(enqueue, queue), count))

    def posts(self, count: int, enqueue: Enqueue) -> list[Callable[[], None]]:
        """See `Store`; on a connection without confirms, so that nothing is waited for."""
        poster = self._poster = RawAmqp(self._server.port, self.vhost)
        template = self._template(enqueue, self._queue)
        prepared = [poster.publish(self._queue, message) for message in copies(template, count)]
        return [partial(poster.send, data) for data in prepared]

    def left(self) -> int:
        """See `Store`."""
        return self._connection.ready(self._queue)

    def reported(self, queue: str) -> int:
        """Messages that wait in another queue."""
        return self._connection.ready(queue)

    def close(self) -> None:
        """See `Store`."""
        self._connection.close()
        if self._poster is not None:
            self._poster.close()
        self._server.control("delete_vhost", self.vhost)

    def _template(self, enqueue: Enqueue, queue: str) -> RawMessage:
        """The message to copy, which is asked for once, since a running worker would take it away."""
        if queue not in self._templates:
            enqueue(1)
            message = self._connection.take(queue)
            if message is None:
                raise RuntimeError(f"the program enqueued nothing to {queue!r}")
            self._templates[queue] = message
        return self._templates[queue]


class States:
    """The whole server, emptied before, in which a peer keeps how its jobs ended: a key for each of them."""

    def __init__(self, server: RedisServer) -> None:
        self.url = f"redis://{HOST}:{server.port}/0"
        self.pid = server.pid
        self._connection = RawRedis(server.port)
        self._connection.command("FLUSHALL")

    def kept(self) -> int:
        """How many jobs have one."""
        count = self._connection.command("DBSIZE")
        return count if isinstance(count, int) else 0

    def close(self) -> None:
        """Remove them."""
        self._connection.command("FLUSHALL")
        self._connection.close()


class RedisStore:
    """The whole server, as SAQ or arq lays out its queue in it."""

    vhost = ""

    def __init__(self, server: RedisServer, layout: str) -> None:
        self._layout = layout
        self._queue = {"saq": "saq:bench:queued", "arq": "arq:queue"}[layout]
        self.url = f"redis://{HOST}:{server.port}"
        self.pid = server.pid
        self._connection = RawRedis(server.port)
        self._connection.command("FLUSHALL")

    def weigh(self, enqueue: Enqueue) -> int:
        """See `Store`."""
        enqueue(1)
        (job,) = self._jobs()
        size = self._connection.command("STRLEN", job if self._layout == "saq" else b"arq:job:" + job)
        self._connection.command("FLUSHALL")
        return int(size) if isinstance(size, int) else 0

    def fill(self, count: int, enqueue: Enqueue, queue: str | None = None) -> None:
        """See `Store`; its own client does it, as every job has keys of its own."""
        enqueue(count)
        if (lies := len(self._jobs())) != count:
            raise RuntimeError(f"the program enqueued {lies} jobs instead of {count}")

    def posts(self, count: int, enqueue: Enqueue) -> list[Callable[[], None]]:
        """See `Store`; only the last step is left to each, the one by which workers see the job."""
        self.fill(count, enqueue)
        jobs = self._jobs()
        self._connection.command("DEL", self._queue)

        def post(job: bytes) -> None:
            if self._layout == "saq":
                self._connection.command("RPUSH", self._queue, job)
            else:
                self._connection.command("ZADD", self._queue, str(time.time_ns() // 1_000_000), job)

        return [partial(post, job) for job in jobs]

    def left(self) -> int:
        """See `Store`."""
        return len(self._jobs())

    def close(self) -> None:
        """See `Store`."""
        self._connection.command("FLUSHALL")
        self._connection.close()

    def _jobs(self) -> list[bytes]:
        """Their ids, in order."""
        words = ("LRANGE", self._queue, "0", "-1") if self._layout == "saq" else ("ZRANGE", self._queue, "0", "-1")
        answer = self._connection.command(*words)
        return answer if isinstance(answer, list) else []
