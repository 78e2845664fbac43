"""Where a worker publishes to may be deleted by somebody while it runs: it is made again, and nothing is lost."""

import pytest
import trio
from tests.support.amqp import connect
from tests.support.api_model import ApiSettings
from tests.support.cluster import cluster, serving

from milvaion_trio import PermanentFailure
from milvaion_trio.model.topology import DEAD_LETTER_EXCHANGE
from milvaion_trio.runtime import declared


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "PAUSE", 0.5)


async def test_an_exchange_that_is_deleted_is_made_again_for_what_goes_there() -> None:
    """That of dead letters, with its binding: the broker takes nothing for it until then."""
    with trio.fail_after(60):
        async with cluster(api_settings=ApiSettings(status_interval=0.01)) as here:
            worker = here.worker()

            @worker.job("FailingJob")
            async def failing() -> None:
                raise PermanentFailure("on purpose")

            async with serving(worker):
                for letters in (1, 2, 3):
                    async with connect(here.rabbitmq.port, here.vhost) as client:
                        if letters > 1:  # known to the connection by then, or not yet looked for
                            await client.delete_exchange(DEAD_LETTER_EXCHANGE)
                    await here.api.until_ended(await here.api.dispatch("FailingJob"))
                    while len(here.api.model.failed_occurrences) < letters:  # noqa: ASYNC110  # by another process
                        await trio.sleep(0.05)
