"""`milvaion-trio schema`: what jobs take and return, and what a settings file may say, for other programs to read."""

import json
from typing import Annotated

from cyclopts import Parameter

from milvaion_trio.cli.failures import ExitCode, UsageError, with_hint
from milvaion_trio.cli.options import ConfigOption, SetOption, load, overrides
from milvaion_trio.cli.terminal import write_json
from milvaion_trio.model.errors import JobNotRegistered
from milvaion_trio.policy.schema import Schema
from milvaion_trio.runtime.registry import RegisteredJob

__all__ = ["schema"]

SETTINGS = "settings"
"""In place of a worker, which has a colon in its name."""


def schema(
    target: Annotated[
        str,
        Parameter(name="MODULE:WORKER", help="A worker, for the schemas of its jobs; or the word settings."),
    ],
    job: Annotated[str | None, Parameter(name="JOB", help="Only this job, in any case.")] = None,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[
        bool, Parameter(negative="", help="As without it: schemas are JSON. For scripts that give it to every command.")
    ] = False,
) -> int:
    """Print the JSON Schemas of a worker's jobs as it registers them, or that of milvaion.toml.

    For a worker, an object with a member for each job, and in it the schemas of its data and of its result; for one
    job, these two alone. What has no schema is null: data and results whose type is no class with fields. The Milvaion
    dashboard makes its forms of them.

    For the word settings, the schema that editors check and complete milvaion.toml with. It needs no worker.

    Exit codes: 0 printed, 1 the module raises when it is imported, 2 there is no such worker or job, the module is no
    Python or imports what is not there, or its settings are wrong.

        milvaion-trio schema app.jobs:worker
        milvaion-trio schema app.jobs:worker SendEmailJob | jq .data
        milvaion-trio schema settings > milvaion.schema.json
    """
    if target == SETTINGS:
        if job is not None or config is not None or settings is not None:
            raise UsageError("The schema of the settings is always the same: nothing else goes with the word settings.")
        write_json(_settings_schema())
        return ExitCode.DONE
    worker = load(target, config, overrides(settings))
    worker.prepare()
    if job is None:
        write_json({each.name: _schemas(each) for each in worker.registry.jobs})
        return ExitCode.DONE
    try:
        found = worker.registry.resolve(job)
    except JobNotRegistered as error:
        raise UsageError(with_hint(error)) from error
    write_json(_schemas(found))
    return ExitCode.DONE


def _settings_schema() -> object:
    from milvaion_trio.configuration.schema import settings_schema  # reads syntax trees, which no other command needs

    return settings_schema()


def _schemas(job: RegisteredJob) -> dict[str, object]:
    return {"data": _value(job.data_schema), "result": _value(job.result_schema)}


def _value(schema: Schema | None) -> object:
    return None if schema is None else json.loads(schema.text)
