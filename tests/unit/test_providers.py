"""Provided values: made in the order of their needs and closed in reverse, for a run or for the whole worker."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Protocol

import pytest
import trio
import trio.testing

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.runtime.providers import Providers, ProviderScope


class Context:
    pass


class Settings:
    pass


class Pool:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings


class Session:
    def __init__(self, pool: Pool, context: Context | None = None) -> None:
        self.pool = pool
        self.context = context


class Noted:
    """Notes when its managers open and close."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def manager(self, name: str, value: object) -> Callable[[], contextlib.AbstractAsyncContextManager[object]]:
        @contextlib.asynccontextmanager
        async def manage() -> AsyncIterator[object]:
            self.events.append(f"open {name}")
            try:
                yield value
            except BaseException as error:
                self.events.append(f"{name} saw {type(error).__name__}")
                raise
            finally:
                self.events.append(f"close {name}")

        return manage


def checked(*provided: tuple[type, Callable[..., object], ProviderScope]) -> Providers:
    providers = Providers()
    for kind, factory, scope in provided:
        providers.provide(kind, factory, scope)
    providers.check(Context)
    return providers


async def value_of(providers: Providers, kind: type) -> object:
    async with providers.worker_scope(), providers.job_scope(Context(), {"it": kind}) as values:
        return values["it"]


# --- kinds of factories ---------------------------------------------------------------------------------------------


async def test_every_kind_of_factory_gives_its_value() -> None:
    made = Settings()

    async def coroutine() -> Settings:
        return made

    @contextlib.contextmanager
    def manager() -> Iterator[Settings]:
        yield made

    @contextlib.asynccontextmanager
    async def async_manager() -> AsyncIterator[Settings]:
        yield made

    async def manager_later() -> contextlib.AbstractAsyncContextManager[Settings]:
        return async_manager()

    for factory in (lambda: made, coroutine, manager, async_manager, manager_later):
        assert await value_of(checked((Settings, factory, "job")), Settings) is made


async def test_a_value_that_is_a_context_manager_itself_is_not_entered() -> None:
    """Who provides a Lock by making one wants it open."""
    lock = await value_of(checked((trio.Lock, trio.Lock, "job")), trio.Lock)

    assert isinstance(lock, trio.Lock)
    assert not lock.locked()


async def test_a_protocol_can_be_provided() -> None:
    class Clock(Protocol):
        def now(self) -> float: ...

    class Fixed:
        def now(self) -> float:
            return 1.0

    assert isinstance(await value_of(checked((Clock, Fixed, "job")), Clock), Fixed)


async def test_providing_a_type_again_replaces_the_first() -> None:
    first, second = Settings(), Settings()

    assert (
        await value_of(checked((Settings, lambda: first, "job"), (Settings, lambda: second, "job")), Settings) is second
    )


# --- needs ----------------------------------------------------------------------------------------------------------


async def test_factories_are_provided_with_what_they_need_and_share_it() -> None:
    providers = checked((Session, Session, "job"), (Pool, Pool, "job"), (Settings, Settings, "worker"))
    context = Context()

    async with providers.worker_scope():
        async with providers.job_scope(context, {"session": Session, "pool": Pool, "settings": Settings}) as first:
            pass
        async with providers.job_scope(context, {"pool": Pool, "settings": Settings, "me": Context}) as second:
            pass

    session = first["session"]
    assert isinstance(session, Session)
    assert session.pool is first["pool"]
    assert session.context is context
    assert first["pool"] is not second["pool"]
    assert first["settings"] is second["settings"]
    assert second["me"] is context


def test_needs_in_a_circle_are_an_error_that_shows_the_circle() -> None:
    def settings(session: Session) -> Settings:
        return Settings()

    with pytest.raises(SettingsError, match="Session -> Pool -> Settings -> Session"):
        checked((Session, Session, "job"), (Pool, Pool, "job"), (Settings, settings, "job"))


def test_what_nobody_provides_is_an_error() -> None:
    with pytest.raises(SettingsError, match="Pool: nothing is provided for settings"):
        checked((Pool, Pool, "job"))


def test_what_lives_as_long_as_the_worker_needs_nothing_of_a_job() -> None:
    def pool(settings: Settings, context: Context) -> Pool:
        return Pool(settings)

    with pytest.raises(SettingsError) as caught:
        checked((Pool, pool, "worker"), (Settings, Settings, "job"))

    assert [problem.rpartition("needs ")[2] for problem in caught.value.problems] == [
        "Settings, which lives as long as a job.",
        "Context, which lives as long as a job.",
    ]


def test_an_undecorated_generator_the_context_and_an_unknown_scope_are_errors() -> None:
    async def settings() -> AsyncIterator[Settings]:
        yield Settings()

    with pytest.raises(SettingsError) as caught:
        checked((Settings, settings, "job"), (Context, Context, "job"))
    assert len(caught.value.problems) == 2
    assert "decorate it with contextlib.asynccontextmanager" in caught.value.problems[0]

    with pytest.raises(SettingsError, match="must be 'job' or 'worker'"):
        checked((Settings, Settings, "process"))  # type: ignore[arg-type] # the mistake under test


# --- lifetimes ------------------------------------------------------------------------------------------------------


async def test_what_lives_as_long_as_the_worker_is_made_at_start_and_closed_in_reverse() -> None:
    noted = Noted()
    providers = checked(
        (Settings, noted.manager("settings", Settings()), "worker"),
        (Session, noted.manager("session", object()), "worker"),
    )

    async with providers.worker_scope():
        assert noted.events == ["open settings", "open session"]

    assert noted.events[2:] == ["close session", "close settings"]


async def test_what_a_run_was_given_is_closed_in_reverse_when_it_ends() -> None:
    noted = Noted()
    providers = checked(
        (Settings, noted.manager("settings", Settings()), "job"), (Session, noted.manager("session", object()), "job")
    )

    async with providers.job_scope(Context(), {"a": Settings, "b": Session}):
        noted.events.append("run")

    assert noted.events == ["open settings", "open session", "run", "close session", "close settings"]


async def test_only_what_is_needed_is_made() -> None:
    noted = Noted()
    providers = checked(
        (Settings, noted.manager("settings", Settings()), "job"), (Session, noted.manager("session", object()), "job")
    )

    async with providers.job_scope(Context(), {"b": Session}):
        pass

    assert noted.events == ["open session", "close session"]


async def test_the_error_of_a_factory_is_raised_and_closes_what_was_made() -> None:
    noted = Noted()

    def failing(settings: Settings) -> Session:
        raise ConnectionError("no database")

    providers = checked((Settings, noted.manager("settings", Settings()), "job"), (Session, failing, "job"))

    with pytest.raises(ConnectionError, match="no database") as caught:
        async with providers.job_scope(Context(), {"session": Session}):
            pass

    assert "Session" in caught.value.__notes__[0]
    assert noted.events[-1] == "close settings"


async def test_what_closes_sees_the_error_of_the_job() -> None:
    """So that a transaction can be rolled back."""
    noted = Noted()
    providers = checked((Settings, noted.manager("settings", Settings()), "job"))

    with pytest.raises(ValueError, match="job"):
        async with providers.job_scope(Context(), {"a": Settings}):
            raise ValueError("job")

    assert noted.events == ["open settings", "settings saw ValueError", "close settings"]


async def test_what_closes_cannot_hide_the_error_of_the_job() -> None:
    """A job that failed must not be reported as completed."""

    @contextlib.contextmanager
    def swallowing() -> Iterator[Settings]:
        with contextlib.suppress(ValueError):
            yield Settings()

    providers = checked((Settings, swallowing, "job"))

    with pytest.raises(ValueError, match="job"):
        async with providers.job_scope(Context(), {"a": Settings}):
            raise ValueError("job")


@contextlib.asynccontextmanager
async def slow_to_close(seconds: float, done: list[str]) -> AsyncIterator[Settings]:
    try:
        yield Settings()
    finally:
        await trio.sleep(seconds)
        done.append("closed")


async def test_a_cancelled_run_still_closes_what_it_was_given(autojump_clock: trio.testing.MockClock) -> None:
    done: list[str] = []
    providers = checked((Settings, lambda: slow_to_close(2, done), "job"))

    with trio.move_on_after(1) as scope:
        async with providers.job_scope(Context(), {"a": Settings}):
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert done == ["closed"]
    assert trio.current_time() == 3


async def test_closing_is_bounded_after_a_cancellation(autojump_clock: trio.testing.MockClock) -> None:
    done: list[str] = []
    providers = checked((Settings, lambda: slow_to_close(60, done), "job"))

    with trio.move_on_after(1) as scope:
        async with providers.job_scope(Context(), {"a": Settings}, cleanup_timeout=5):
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert done == []
    assert trio.current_time() == 6


async def test_closing_that_takes_too_long_fails_a_run_that_had_succeeded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    providers = checked((Settings, lambda: slow_to_close(60, []), "job"))

    with pytest.raises(trio.TooSlowError, match=r"Settings.* took longer than 5 s"):
        async with providers.job_scope(Context(), {"a": Settings}, cleanup_timeout=5):
            pass


async def test_closing_that_takes_too_long_does_not_replace_the_error_of_the_job(
    autojump_clock: trio.testing.MockClock,
) -> None:
    providers = checked((Settings, lambda: slow_to_close(60, []), "job"))

    with pytest.raises(ValueError, match="job"):
        async with providers.job_scope(Context(), {"a": Settings}):
            raise ValueError("job")


async def test_a_provider_may_be_a_nursery(autojump_clock: trio.testing.MockClock) -> None:
    """Scopes that a provider opens nest with the one that shields its closing, cancelled or not."""

    @contextlib.asynccontextmanager
    async def nursery() -> AsyncIterator[trio.Nursery]:
        async with trio.open_nursery() as opened:
            yield opened
            opened.cancel_scope.cancel()

    providers = checked((trio.Nursery, nursery, "job"))
    needed: Mapping[str, object] = {"nursery": trio.Nursery}

    async with providers.job_scope(Context(), needed) as values:
        values["nursery"].start_soon(trio.sleep_forever)  # type: ignore[attr-defined] # it is the nursery

    with trio.move_on_after(1) as scope:
        async with providers.job_scope(Context(), needed):
            await trio.sleep_forever()
    assert scope.cancelled_caught
