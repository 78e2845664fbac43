"""`milvaion-trio check`: whether a worker would start here, and what to do if not."""

from functools import partial
from typing import Annotated

from attrs import evolve
from cyclopts import Parameter

from milvaion_trio.cli.failures import ExitCode
from milvaion_trio.cli.findings import Area, Verdict, print_findings, worst
from milvaion_trio.cli.interruptible import run_interruptible
from milvaion_trio.cli.options import ConfigOption, SetOption, WorkerArgument, load, overrides
from milvaion_trio.cli.outbox_check import look_at_outbox
from milvaion_trio.cli.server_checks import look_at_servers
from milvaion_trio.cli.worker_checks import look_at_jobs, look_at_settings
from milvaion_trio.configuration.spelling import spelled

__all__ = ["check"]


def check(
    target: WorkerArgument,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object: the worst verdict, and all findings.")] = False,
) -> int:
    """See whether a worker would start here: settings, jobs, outbox, RabbitMQ with its queues, and Redis.

    Nothing is changed: what does not exist yet is not made, and no message is touched. A server gets 10 s to answer.

    Exit codes: 0 nothing failed, 1 something did, 2 the settings or the jobs contradict themselves.

        milvaion-trio check app.jobs:worker --config appsettings.json
        milvaion-trio check app.jobs:worker --json | jq -r .verdict
    """
    worker = load(target, config, overrides(settings))
    findings = list(look_at_settings(worker))
    if worst(findings) is not Verdict.FAILED:
        findings += look_at_jobs(worker)
        findings += look_at_outbox(worker)
        findings += run_interruptible(partial(look_at_servers, worker))
        resolved = worker.read_settings()
        findings = [evolve(finding, text=spelled(finding.text, resolved)) for finding in findings]
    print_findings(findings, as_json=json)
    failed = {finding.area for finding in findings if finding.verdict is Verdict.FAILED}
    if failed & {Area.SETTINGS, Area.JOBS}:
        return ExitCode.USAGE
    return ExitCode.FAILED if failed else ExitCode.DONE
