"""A unique key, claimed for an occurrence before its message is published.

Separate from the client, which knows how to publish: here is what is claimed, for how long, and what becomes of the
claim when nothing was published.
"""

import math
from contextlib import suppress
from typing import Final

import trio
from attrs import frozen

from milvaion_trio.model import headers
from milvaion_trio.model.envelope import HeaderValue
from milvaion_trio.model.errors import AlreadyDispatched, LinkLost, NotPublished
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.policy.backoff import LONGEST_DELAY
from milvaion_trio.policy.guarding import UNIQUE_FOR
from milvaion_trio.policy.key_template import as_key
from milvaion_trio.ports.coordination import Coordination

__all__ = ["NO_KEEPER", "UniqueKey", "key_headers"]

UNDOING: Final = 1.0
"""Seconds to give up the claim of what was not published; else it runs out."""
TRIES: Final = 3
NO_KEEPER: Final = (
    "A unique key needs Redis, or an embedded broker and its worker: nobody else could know which keys are claimed. "
    "Nothing was enqueued. Name a Redis in the settings (Worker:Redis:ConnectionString), or give the client a "
    "`coordination`."
)


@frozen(kw_only=True)
class UniqueKey:
    """A key that one occurrence is to have."""

    key: str
    merges: bool
    seconds: float
    """For which it is claimed beyond the delay."""

    @classmethod
    def wanted(cls, key: str, on_duplicate: str, unique_for: float | None) -> "UniqueKey":
        """Raises `ValueError` for options that mean nothing."""
        if on_duplicate not in ("refuse", "merge"):
            raise ValueError(f"on_duplicate is {on_duplicate!r}; it must be 'refuse' or 'merge'.")
        seconds = UNIQUE_FOR if unique_for is None else unique_for
        if not 1 <= seconds <= LONGEST_DELAY:  # also NaN
            raise ValueError(
                f"unique_for is {unique_for!r}; it must be seconds from 1 to {LONGEST_DELAY:.0f} (30 days)."
            )
        return cls(key=as_key(key), merges=on_duplicate == "merge", seconds=seconds)

    async def claim(self, keeper: Coordination, occurrence_id: OccurrenceId, delay: float) -> OccurrenceId:
        """Whose it is now: this occurrence's, or where that is allowed the first one's.

        Raises `AlreadyDispatched`, or `NotPublished` when the keeper cannot be reached. If cancelled, or raised, it is
        given up again, as far as the keeper can be reached.
        """
        try:
            owner = await self._claimed(keeper, occurrence_id, delay + self.seconds)
        except BaseException:  # nothing was published, and the claim may have arrived
            await self.give_up(keeper, occurrence_id)  # noqa: ASYNC102  # shielded and bounded there
            raise
        if owner != occurrence_id and not self.merges:
            raise AlreadyDispatched(self.key, owner)
        return owner

    async def _claimed(self, keeper: Coordination, occurrence_id: OccurrenceId, seconds: float) -> OccurrenceId:
        lost = LinkLost()
        for _ in range(TRIES):  # a second one may meet a new connection; claimed twice by the same is claimed once
            try:
                return await keeper.claims.claim(self.key, occurrence_id, seconds)
            except LinkLost as error:
                lost = error
        raise NotPublished(
            f"The unique key {self.key!r} could not be claimed: {lost}. Nothing was enqueued; try again."
        ) from lost

    async def give_up(self, keeper: Coordination, occurrence_id: OccurrenceId) -> None:
        """Free it, as nothing was published. Not cancelled, and over within a second; then it runs out by itself."""
        with trio.CancelScope(shield=True, relative_deadline=UNDOING):
            with suppress(LinkLost):
                await keeper.claims.give_up(self.key, occurrence_id)


def key_headers(exclusive: str | None, unique: UniqueKey | None) -> dict[str, HeaderValue]:
    """What a dispatch message says about its keys. Raises `ValueError` for a key that is none."""
    found: dict[str, HeaderValue] = {}
    if exclusive is not None:
        if not exclusive.strip():
            raise ValueError("exclusive is empty; it must be a text, the same for all that must not run at once.")
        found[headers.EXCLUSIVE] = exclusive
    if unique is not None:
        if not unique.key.strip():
            raise ValueError("unique is empty; it must be a text, the same for all of which one is enough.")
        found[headers.UNIQUE] = unique.key
        if unique.seconds != UNIQUE_FOR:
            found[headers.UNIQUE_FOR] = math.ceil(unique.seconds)
    return found
