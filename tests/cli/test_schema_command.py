"""`schema` prints what is registered about jobs, and what a settings file may say, as JSON that other programs read."""

import json

from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # has no types of its own
from tests.cli.sample_worker import worker
from tests.support.commands import Ended, call_command, run_command

from milvaion_trio.configuration.schema import settings_schema


def test_the_schemas_of_all_jobs_are_those_that_are_registered() -> None:
    ended = run_command("schema", "sample_worker:worker")

    worker.prepare()
    jobs = {job.name: job for job in worker.registry.jobs}
    shown = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert list(shown) == ["GenerateReportJob", "CleanupJob", "SendInvoiceJob"]
    data_schema = jobs["GenerateReportJob"].data_schema
    assert data_schema is not None
    assert shown["GenerateReportJob"]["data"] == json.loads(data_schema.text)
    assert list(shown["GenerateReportJob"]["data"]) == ["$schema", "type", "title", "properties", "required"]
    assert shown["CleanupJob"]["data"] is None
    assert shown["SendInvoiceJob"]["result"]["title"] == "String"


def test_one_job_is_named_in_any_case() -> None:
    ended = run_command("schema", "sample_worker:worker", "sendinvoicejob", "--json")

    assert json.loads(ended.out)["data"]["required"] == ["amount", "title"]


def test_a_job_that_is_not_there_is_a_mistake_of_the_command_line() -> None:
    ended = run_command("schema", "sample_worker:worker", "SendInvoicesJob")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.endswith(" Did you mean SendInvoiceJob?\n")


async def test_the_settings_have_a_schema_without_any_worker() -> None:
    ended = await call_command("schema", "settings")

    shown = json.loads(ended.out)
    assert shown == settings_schema()
    Draft202012Validator.check_schema(shown)
    assert await call_command("schema", "settings", "SendInvoiceJob") == Ended(
        2, "", "error: The schema of the settings is always the same: nothing else goes with the word settings.\n"
    )
