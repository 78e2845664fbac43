"""Which parameter of a job is given what."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import pytest
from attrs import frozen

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.policy.parameters import DataParameter, Parameters, inspect_parameters

if TYPE_CHECKING:
    from milvaion_trio.runtime.context import JobContext


class Context:
    """Stands for the context type of the runtime."""


class Database:
    pass


class Mailer:
    pass


@frozen
class Email:
    to: str
    subject: str = "Hello"
    priority: int = 3


inspected = partial(inspect_parameters, context_type=Context, provided={Database, Mailer})


def test_a_parameter_of_the_context_type_is_the_context_wherever_it_stands() -> None:
    async def job(email: Email, context: Context) -> None: ...

    assert inspected(job) == Parameters("context", DataParameter("email", Email))


def test_an_unannotated_first_parameter_called_ctx_is_the_context() -> None:
    async def job(ctx, email): ...  # type: ignore[no-untyped-def] # unannotated is the point

    assert inspected(job) == Parameters("ctx", DataParameter("email"))


def test_a_parameter_called_ctx_that_is_not_the_first_is_data() -> None:
    async def job(db: Database, ctx: dict[str, int]) -> None: ...

    assert inspected(job) == Parameters(None, DataParameter("ctx", dict[str, int]), {"db": Database})


def test_an_annotated_context_wins_over_the_name_ctx() -> None:
    async def job(ctx: Email, context: Context) -> None: ...

    assert inspected(job) == Parameters("context", DataParameter("ctx", Email))


def test_parameters_of_provided_types_are_injected() -> None:
    async def job(ctx: Context, db: Database, mailer: Annotated[Mailer, "fast"]) -> None: ...

    assert inspected(job) == Parameters("ctx", None, {"db": Database, "mailer": Mailer})


def test_a_default_belongs_to_the_data_parameter() -> None:
    async def job(ctx: Context, count: int = 7) -> None: ...

    assert inspected(job).data == DataParameter("count", int, 7)


def test_a_job_may_take_nothing() -> None:
    assert inspected(lambda: None) == Parameters()


def test_two_parameters_for_the_data_are_an_error_that_names_function_and_parameters() -> None:
    async def send(ctx: Context, email: Email, retries: int = 3) -> None: ...

    with pytest.raises(SettingsError) as caught:
        inspected(send)

    [problem] = caught.value.problems
    assert "send: email and retries" in problem
    assert "only one parameter can take the data" in problem


def test_annotations_that_are_texts_are_resolved() -> None:
    async def job(ctx: "Context", email: "Email | None") -> None: ...

    assert inspected(job) == Parameters("ctx", DataParameter("email", Email | None))


def test_an_unresolvable_annotation_is_a_problem_that_names_it() -> None:
    async def job(ctx: Context, email: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821 - the point

    with pytest.raises(
        SettingsError, match=r"annotation of email cannot be resolved: 'Nowhere'.*not under TYPE_CHECKING"
    ):
        inspected(job)


def test_an_unresolvable_return_annotation_is_nobodys_business() -> None:
    async def job(ctx: Context) -> "Nowhere": ...  # type: ignore[name-defined] # noqa: F821 - the point

    assert inspected(job) == Parameters("ctx")


def test_a_context_type_imported_for_type_checkers_only_is_known_by_its_name() -> None:
    class JobContext: ...

    async def job(context: "JobContext", email: Email) -> None: ...

    # The text is resolved in this module, where JobContext exists for type checkers only.
    found = inspect_parameters(job, context_type=JobContext, provided=())
    assert found == Parameters("context", DataParameter("email", Email))


def test_variable_parameters_are_left_alone() -> None:
    def job(ctx: Context, *args: int, **kwargs: int) -> None: ...

    assert inspected(job) == Parameters("ctx")


def test_a_positional_only_parameter_is_a_problem() -> None:
    def job(ctx: Context, email: Email, /) -> None: ...

    with pytest.raises(SettingsError, match=r"ctx can only be passed by position; take the `/` away"):
        inspected(job)


class SendEmail:
    def __init__(self, db: Database, retries: int = 3) -> None: ...

    async def execute(self, ctx: Context, data: Email | None = None) -> None: ...


def test_self_is_skipped_bound_or_not() -> None:
    expected = Parameters("ctx", DataParameter("data", Email | None, None))

    assert inspected(SendEmail.execute) == expected
    assert inspected(SendEmail(Database()).execute) == expected


def test_a_constructor_takes_no_data() -> None:
    assert inspected(SendEmail, takes_data=False) == Parameters(None, None, {"db": Database})


def test_what_a_constructor_needs_and_nobody_provides_is_a_problem() -> None:
    with pytest.raises(SettingsError, match=r"SendEmail: nothing is provided for db"):
        inspect_parameters(SendEmail, context_type=Context, provided=(), takes_data=False)


def test_partials_and_callable_objects_have_parameters_too() -> None:
    def job(ctx: "Context", db: "Database", scale: int) -> None: ...

    class Called:
        def __call__(self, ctx: "Context", email: "Email") -> None: ...

    assert inspected(partial(job, scale=2)).provided == {"db": Database}
    assert inspected(Called()) == Parameters("ctx", DataParameter("email", Email))
