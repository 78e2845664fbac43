"""What the decorators record of a job."""

import inspect
import sys

import pytest
from attrs import frozen

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.runtime.definition import (
    EnqueueOptions,
    Job,
    JobDefinition,
    RunMode,
    define_job,
    definition_problems,
    job,
)


class Context:
    pass


@frozen
class Email:
    to: str


async def send_email(ctx: Context, email: Email) -> str:
    """Send it."""
    return email.to


def block(ctx: Context) -> None: ...


async def test_calling_a_definition_calls_the_function() -> None:
    definition = job("SendEmailJob")(send_email)

    assert await definition(Context(), Email("a")) == "a"


def test_a_definition_looks_like_its_function() -> None:
    definition = job()(send_email)

    assert inspect.signature(definition) == inspect.signature(send_email)
    assert inspect.unwrap(definition) is send_email


def test_the_name_is_the_given_one_else_the_functions_or_classs() -> None:
    class CleanUp(Job):
        async def execute(self, ctx: Context) -> None: ...

    assert job("SendEmailJob")(send_email).name == "SendEmailJob"
    assert job()(send_email).name == "send_email"
    assert job()(CleanUp).name == "CleanUp"


def test_async_functions_are_tasks_and_others_run_in_threads() -> None:
    class Called:
        async def __call__(self) -> None: ...

    class Blocking(Job):
        def execute(self, ctx: Context) -> None: ...

    assert job()(send_email).mode is RunMode.TASK
    assert job()(block).mode is RunMode.THREAD
    assert job("Called")(Called()).mode is RunMode.TASK
    assert job()(Blocking).mode is RunMode.THREAD


def test_a_misspelled_setting_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match=r"send_email: a job has no setting 'timeot'; did you mean 'timeout'\?"):
        job(timeot=5)(send_email)  # type: ignore[call-arg] # the mistake under test


def test_a_wrong_setting_is_an_error_where_it_is_written() -> None:
    with pytest.raises(SettingsError, match="max_retries is -1"):
        job(max_retries=-1)(send_email)


def test_an_unknown_run_mode_is_an_error_that_lists_them() -> None:
    with pytest.raises(
        SettingsError, match=r"run is 'threads'; it must be one of 'task', 'thread', 'process', 'asyncio'"
    ):
        job(run="threads")(send_email)  # type: ignore[arg-type] # the mistake under test


def test_forgotten_parentheses_are_an_error() -> None:
    with pytest.raises(SettingsError, match=r"send_email: write @job\(\) with parentheses"):
        job(send_email)  # type: ignore[arg-type] # the mistake under test


def test_only_what_can_be_called_is_a_job() -> None:
    with pytest.raises(SettingsError, match="is no job"):
        define_job(5)  # type: ignore[arg-type] # the mistake under test


async def test_enqueue_hands_over_to_what_is_bound() -> None:
    definition = job()(send_email)
    sent: list[object] = []

    async def dispatch(job: JobDefinition[..., object], data: object, options: EnqueueOptions) -> OccurrenceId:
        sent.append((job, data, options))
        return OccurrenceId("o-1")

    definition.bind(dispatch)

    assert await definition.enqueue(Email("a"), delay=5) == "o-1"
    assert sent == [(definition, Email("a"), {"delay": 5})]


async def test_enqueue_without_a_worker_says_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"(?s)send_email.enqueue\(\) was called.*worker.discover"):
        await job()(send_email).enqueue(Email("a"))


def test_a_python_without_the_bridge_is_told_before_a_job_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """trio-asyncio is not installed on Python 3.14, where it cannot be imported."""
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))

    assert definition_problems(define_job(send_email, run="asyncio")) == [
        "'send_email' has run=\"asyncio\", which needs trio-asyncio and so Python 3.11 to 3.13."
    ]
    assert definition_problems(define_job(send_email)) == []
