"""What a worker makes of all its jobs when it starts."""

import functools
from collections.abc import Callable, Iterator

import pytest
from attrs import frozen

from milvaion_trio.model.errors import JobNotRegistered, SettingsError
from milvaion_trio.model.settings import JobSettings, WorkerSettings
from milvaion_trio.runtime.definition import Job, JobDefinition, define_job
from milvaion_trio.runtime.registry import Registry, resolve


class Context:
    pass


class Database:
    pass


@frozen
class Email:
    to: str


async def send_email(ctx: Context, email: Email) -> str:
    """Send it."""
    return email.to


async def nothing() -> None: ...


def block(ctx: Context) -> None: ...


def registry_of(*definitions: JobDefinition[..., object]) -> Registry:
    registry = Registry()
    for definition in definitions:
        registry.add(definition)
    return registry


def prepared(*definitions: JobDefinition[..., object], settings: WorkerSettings | None = None) -> Registry:
    registry = registry_of(*definitions)
    registry.prepare(settings or WorkerSettings(worker_id="W"), context_type=Context, provided={Database})
    return registry


def problems_of(*names: str) -> list[str]:
    return registry_of(*(define_job(nothing, name) for name in names)).check("w")


# --- names and queues -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [":", "*", "#"])
def test_signs_that_milvaion_uses_are_no_part_of_a_name(sign: str) -> None:
    [problem] = problems_of(f"Send{sign}Email")

    assert sign in problem


@pytest.mark.parametrize("name", ["Job", "JOB", "job"])
def test_job_is_no_name_since_nothing_is_left_for_the_queue(name: str) -> None:
    assert len(problems_of(name)) == 1


def test_a_name_has_200_characters_at_most() -> None:
    assert problems_of("x" * 200) == []
    assert len(problems_of("x" * 201)) == 1


def test_a_queue_name_has_255_bytes_at_most() -> None:
    """A worker id of 100 and a job name of 200 characters are allowed each, but not together."""
    [problem] = registry_of(define_job(nothing, "x" * 200)).check("w" * 100)

    assert "255 bytes" in problem


def test_a_lambda_needs_a_name() -> None:
    unnamed: Callable[[], None] = lambda: None  # noqa: E731 - the point

    assert registry_of(define_job(unnamed)).check("w") == ["A job is called '<lambda>'; give it a name."]


def test_a_partial_has_the_name_of_its_function() -> None:
    assert define_job(functools.partial(send_email, email=Email("a"))).name == "send_email"


def test_names_are_the_same_in_any_case() -> None:
    [problem] = problems_of("SendEmail", "sendemail")

    assert "'SendEmail' and 'sendemail'" in problem


def test_two_jobs_that_derive_the_same_queue_are_a_problem() -> None:
    [problem] = problems_of("SendEmail", "SendEmailJob")

    assert "'SendEmail' and 'SendEmailJob' share the queue scheduled_jobs_queue.w.sendemail.wildcard" in problem


def test_two_jobs_that_configure_the_same_queue_are_a_problem() -> None:
    registry = registry_of(
        define_job(nothing, "A", policy={"routing_patterns": ["x.*"]}),
        define_job(nothing, "B", policy={"routing_patterns": ["b.*", "x.*"]}),
    )

    [problem] = registry.check("w")

    assert "share the queue scheduled_jobs_queue.x.wildcard" in problem


def test_patterns_of_their_own_part_two_jobs() -> None:
    registry = registry_of(
        define_job(nothing, "SendEmail"), define_job(nothing, "SendEmailJob", policy={"routing_patterns": ["other.*"]})
    )

    assert registry.check("w") == []


def test_a_definition_added_twice_is_one_job() -> None:
    definition = define_job(nothing)

    assert registry_of(definition, definition).check("w") == []


def test_settings_for_a_job_that_is_not_there_are_a_problem_with_a_suggestion() -> None:
    [problem] = registry_of(define_job(nothing, "SendEmailJob")).check("w", {"SendEmialJob": JobSettings()})

    assert (
        problem == "The settings name a job 'SendEmialJob' that this worker does not have; did you mean 'SendEmailJob'?"
    )


def yielding() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("definition", "problem"),
    [
        (define_job(block, run="task"), "is no `async def`"),
        (define_job(nothing, run="thread"), "is an `async def`"),
        (define_job(nothing, run="process"), "is an `async def`"),
        (define_job(block, run="asyncio"), "is no `async def`"),
        (define_job(yielding), "contains `yield`"),
    ],
)
def test_a_run_mode_fits_the_function(definition: JobDefinition[..., object], problem: str) -> None:
    [found] = registry_of(definition).check("w")

    assert problem in found


def test_one_report_names_every_mistake_of_every_job() -> None:
    async def greedy(ctx: Context, a: int, b: int) -> None: ...

    async def unreadable(ctx: Context, data: bytes) -> None: ...

    class Empty(Job):
        pass

    registry = registry_of(
        define_job(nothing, "a:b"),
        define_job(greedy),
        define_job(unreadable),
        define_job(Empty),
        define_job(nothing, "Job"),
    )

    with pytest.raises(SettingsError) as caught:
        registry.prepare(WorkerSettings(), context_type=Context, provided=())

    report = str(caught.value)
    assert len(caught.value.problems) == 5
    for part in ("'a:b'", "greedy: a and b", "unreadable: data cannot", "Empty has no `async def execute", "'Job'"):
        assert part in report
    assert registry.jobs == ()


# --- looking up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SendEmailJob", "sendemailjob", "SENDEMAILJOB"])
def test_a_job_is_found_by_its_name_in_any_case(name: str) -> None:
    registry = prepared(define_job(send_email, "SendEmailJob"))

    assert registry.knows(name)
    assert registry.resolve(name).name == "SendEmailJob"


def test_an_unknown_name_is_an_error_that_lists_the_known() -> None:
    registry = prepared(define_job(send_email, "SendEmailJob"))

    assert not registry.knows("Other")
    with pytest.raises(JobNotRegistered, match=r"'Other'. It knows: SendEmailJob"):
        registry.resolve("Other")


def test_the_first_pattern_names_the_queue_and_all_are_bound() -> None:
    registry = prepared(
        define_job(nothing, "SendEmailJob"), define_job(nothing, "B", policy={"routing_patterns": ["x.*", "y.#"]})
    )

    first, second = registry.jobs
    assert (first.queue, first.patterns) == ("scheduled_jobs_queue.w.sendemail.wildcard", ("w.sendemail.*",))
    assert (second.queue, second.patterns) == ("scheduled_jobs_queue.x.wildcard", ("x.*", "y.#"))


def test_a_file_wins_over_the_decorator_and_the_decorator_over_the_workers_defaults() -> None:
    settings = WorkerSettings(
        jobs={"SENDEMAILJOB": JobSettings(timeout=5, consumer_id="mail")},
        job_defaults=JobSettings(timeout=7, max_retries=8, max_parallel=9),
    )

    [registered] = prepared(
        define_job(nothing, "SendEmailJob", policy={"timeout": 6, "max_retries": 2}), settings=settings
    ).jobs

    assert registered.effective.timeout == 5
    assert registered.effective.retry.max_retries == 2
    assert registered.effective.max_parallel == 9
    assert registered.consumer_id == "mail"


def test_what_nobody_says_is_the_workers_or_the_readmes() -> None:
    effective = resolve(JobSettings(), WorkerSettings(max_parallel_jobs=4, execution_timeout=60))

    assert (effective.max_parallel, effective.timeout) == (4, 60)
    assert (effective.retry.max_retries, effective.retry.base_delay, effective.retry.jitter) == (3, 60.0, 0.0)
    assert not effective.retry.retry_on_timeout


def test_a_timeout_of_0_is_none_and_of_none_is_inherited() -> None:
    worker = WorkerSettings(execution_timeout=60)

    assert resolve(JobSettings(timeout=0), worker).timeout is None
    assert resolve(JobSettings(timeout=None), worker).timeout == 60
    assert resolve(JobSettings(), WorkerSettings(execution_timeout=0)).timeout is None


def test_no_retries_and_no_delay_are_not_inherited() -> None:
    retry = resolve(
        JobSettings(max_retries=0, base_retry_delay=0, max_delay=9, never_retry=[KeyError]), WorkerSettings()
    ).retry

    assert (retry.max_retries, retry.base_delay, retry.cap, retry.never) == (0, 0, 9, (KeyError,))


def test_rules_of_the_retry_policy_are_part_of_the_report() -> None:
    with pytest.raises(SettingsError, match=r"SendEmailJob: max_retries is 99999"):
        prepared(define_job(nothing, "SendEmailJob", policy={"max_retries": 99999}))


# --- calling --------------------------------------------------------------------------------------------------------


async def test_a_function_is_called_with_data_and_context_by_name() -> None:
    [registered] = prepared(define_job(send_email)).jobs
    assert registered.reader is not None

    call = registered.callable_for({"ctx": Context(), "email": registered.reader.read('{"to": "a"}')})

    assert await call() == "a"  # type: ignore[misc] # the executor knows from the mode that it is awaitable


def test_a_job_without_data_has_no_reader_and_needs_nothing() -> None:
    [registered] = prepared(define_job(block)).jobs

    assert registered.reader is None
    assert not registered.needed


async def test_a_class_is_made_anew_for_each_call_with_what_its_constructor_asks_for() -> None:
    class SendEmail(Job):
        def __init__(self, db: Database, ctx: Context) -> None:
            self.db, self.ctx = db, ctx

        async def execute(self, ctx: Context, db: Database, email: Email | None = None) -> object:
            return self, self.db, self.ctx, ctx, db, email

    [registered] = prepared(define_job(SendEmail)).jobs
    one, other, context = Database(), Database(), Context()
    keys = {kind: key for key, kind in registered.needed.items() if key != "db"}
    arguments = {"ctx": context, "email": None, "db": one, keys[Database]: other, keys[Context]: context}

    made, *seen = await registered.callable_for(arguments)()  # type: ignore[misc] # as above
    again, *_ = await registered.callable_for(arguments)()  # type: ignore[misc] # as above

    assert seen == [other, context, context, one, None]
    assert made is not again


def test_a_class_whose_constructor_gets_less_than_it_needs_stops_the_start() -> None:
    class SendEmail(Job):
        def __init__(self, sender: str) -> None: ...

        async def execute(self, ctx: Context) -> None: ...

    with pytest.raises(SettingsError, match=r"SendEmail: nothing is provided for sender"):
        prepared(define_job(SendEmail))


@pytest.mark.parametrize("pattern", ["**", "a..b", "send*", ".a", "a.", "a.#b"])
def test_a_pattern_that_no_message_can_reach_is_a_problem(pattern: str) -> None:
    """The queue would be there, bound, and for ever empty."""
    configured = {"SendEmailJob": JobSettings(routing_patterns=[pattern])}

    [problem] = registry_of(define_job(nothing, "SendEmailJob")).check("w", configured)

    assert problem.startswith(f"'SendEmailJob': no message can reach the routing pattern {pattern!r}")


@pytest.mark.parametrize("pattern", ["sendemail.*", "a.#", "*", "a.b.c"])
def test_a_pattern_of_whole_words_is_none(pattern: str) -> None:
    configured = {"SendEmailJob": JobSettings(routing_patterns=[pattern])}

    assert registry_of(define_job(nothing, "SendEmailJob")).check("w", configured) == []
