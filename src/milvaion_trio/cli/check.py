"""`milvaion-trio check`: whether a worker would start here, and what to do if not."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from milvaion_trio.cli.failures import ExitCode
from milvaion_trio.cli.findings import Area, Finding, Verdict, worst
from milvaion_trio.cli.interruptible import run_interruptible
from milvaion_trio.cli.options import ConfigOption, WorkerArgument, load
from milvaion_trio.cli.server_checks import look_at_servers
from milvaion_trio.cli.terminal import BAD, GOOD, WAITING, output_console, write_line
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.worker import Worker

__all__ = ["check"]

_STYLES = {Verdict.OK: GOOD, Verdict.WARNING: WAITING, Verdict.FAILED: BAD}


def check(
    target: WorkerArgument,
    /,
    *,
    config: ConfigOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object: the worst verdict, and all findings.")] = False,
) -> int:
    """See whether a worker would start here: its settings, its jobs, RabbitMQ with its queues, and Redis.

    Nothing is changed: what does not exist yet is not made, and no message is touched. A server gets 10 s to answer.

    Exit codes: 0 nothing failed, 1 something did, 2 the settings or the jobs contradict themselves.

        milvaion-trio check app.jobs:worker --config appsettings.json
        milvaion-trio check app.jobs:worker --json | jq -r .verdict
    """
    worker = load(target, config)
    findings = list(_settings(worker))
    if worst(findings) is not Verdict.FAILED:
        findings += _jobs(worker)
        findings += run_interruptible(partial(look_at_servers, worker))
    if json:
        _print_json(findings)
    else:
        _print_lines(findings)
    failed = {finding.area for finding in findings if finding.verdict is Verdict.FAILED}
    if failed & {Area.SETTINGS, Area.JOBS}:
        return ExitCode.USAGE
    return ExitCode.FAILED if failed else ExitCode.DONE


def _settings(worker: Worker) -> Iterator[Finding]:
    try:
        resolved = worker.read_settings()
        worker.settings = resolved.settings
        # Made, not connected: this reads the addresses.
        _ = worker.broker, worker.signals
    except SettingsError as error:
        yield from (Finding(Area.SETTINGS, Verdict.FAILED, problem) for problem in error.problems)
        return
    read = ", ".join(resolved.sources)
    text = f"read from {read}" if read else "all from the code: no appsettings.json here, nothing in the environment"
    yield Finding(Area.SETTINGS, Verdict.OK, f"worker id {resolved.settings.worker_id}; {text}")
    yield from (Finding(Area.SETTINGS, Verdict.WARNING, warning) for warning in resolved.warnings)
    if resolved.settings.rabbitmq is not None and resolved.settings.offline_resilience.enabled:
        text = (
            "OfflineResilience has no effect in this version: reports wait in memory while RabbitMQ is away, and a "
            "worker that is killed then runs its jobs again"
        )
        yield Finding(Area.SETTINGS, Verdict.WARNING, text)


def _jobs(worker: Worker) -> Iterator[Finding]:
    try:
        worker.prepare()
    except SettingsError as error:
        yield from (Finding(Area.JOBS, Verdict.FAILED, problem) for problem in error.problems)
        return
    if not worker.registry.jobs:
        yield Finding(Area.JOBS, Verdict.WARNING, "there are none: decorate a function with @worker.job()")
    for job in worker.registry.jobs:
        yield Finding(Area.JOBS, Verdict.OK, f"{job.name}, from {job.queue}")
    yield from (Finding(Area.JOBS, Verdict.WARNING, warning) for warning in worker.warnings())


def _print_json(findings: list[Finding]) -> None:
    facts = [
        {"area": finding.area.value, "verdict": finding.verdict.value, "text": finding.text} for finding in findings
    ]
    write_line(json.dumps({"verdict": worst(findings).value, "findings": facts}, indent=2, ensure_ascii=False))


def _print_lines(findings: list[Finding]) -> None:
    console = output_console()
    for finding in findings:
        verdict = (f"{finding.verdict.value:<8} ", _STYLES[finding.verdict])
        console.print(Text.assemble(verdict, f"{finding.area.value:<9} ", finding.text))
