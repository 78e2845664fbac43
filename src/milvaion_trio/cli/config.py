"""`milvaion-trio config`: what the settings are here, where each comes from, and what is wrong with them.

No server is asked; whether those answer is seen by `check`.
"""

import json
from typing import Annotated, TypeAlias

from cyclopts import Parameter
from rich.text import Text

from milvaion_trio.cli.failures import ExitCode
from milvaion_trio.cli.findings import Verdict, print_findings, worst
from milvaion_trio.cli.options import ConfigOption, SetOption, load, overrides
from milvaion_trio.cli.terminal import QUIET, error_console, output_console, table, write_json
from milvaion_trio.cli.worker_checks import look_at_jobs, look_at_settings
from milvaion_trio.configuration.effective import Effective, effective_settings
from milvaion_trio.worker import Worker

__all__ = ["check_config", "show_config"]

OptionalWorker: TypeAlias = Annotated[
    str | None, Parameter(name="MODULE:WORKER", help="A worker, for what its code says and for the policy of its jobs.")
]


def show_config(
    target: OptionalWorker = None,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object: settings, sources and warnings.")] = False,
) -> int:
    """Show every setting that holds here, and where it comes from; passwords are not shown.

    With a worker, what its code says counts too, and the policy of each of its jobs is listed.

    Exit codes: 0 shown, 2 the settings contradict themselves.

        milvaion-trio config show
        milvaion-trio config show app.jobs:worker --config milvaion.toml
        milvaion-trio config show --json | jq '.settings[] | select(.origin != "default")'
    """
    worker = _worker(target, config, settings)
    resolved = worker.read_settings()
    worker.settings = resolved.settings  # its warnings are told below
    if target is not None:
        worker.prepare()
    shown = effective_settings(resolved, worker.registry.jobs, worker.timetable.declared)
    if json:
        _print_json(shown, resolved.sources, resolved.warnings)
        return ExitCode.DONE
    for warning in resolved.warnings:
        error_console().print(f"warning: {warning}")
    rows = table("Setting", "Value", "From")
    for each in shown:
        style = QUIET if each.origin == "default" else ""
        rows.add_row(*(Text(text, style=style) for text in (each.name, _text(each.value), each.origin)))
    output_console().print(rows)
    return ExitCode.DONE


def check_config(
    target: OptionalWorker = None,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object: the worst verdict, and all findings.")] = False,
) -> int:
    """Read all settings, and with a worker its jobs, and say everything that is wrong or has no effect.

    No server is asked: that is `milvaion-trio check`.

    Exit codes: 0 a worker would start with these, 2 they contradict themselves.

        milvaion-trio config check
        milvaion-trio config check app.jobs:worker --config appsettings.json
    """
    worker = _worker(target, config, settings)
    findings = list(look_at_settings(worker, has_notes=True))
    if target is not None and worst(findings) is not Verdict.FAILED:
        findings += look_at_jobs(worker)
    print_findings(findings, as_json=json)
    return ExitCode.USAGE if worst(findings) is Verdict.FAILED else ExitCode.DONE


def _worker(target: str | None, config: ConfigOption, settings: SetOption) -> Worker:
    if target is not None:
        return load(target, config, overrides(settings))
    worker = Worker()
    worker.configure(config, overrides(settings))
    return worker


def _print_json(shown: list[Effective], sources: tuple[str, ...], warnings: tuple[str, ...]) -> None:
    settings = [{"name": each.name, "value": each.value, "origin": each.origin} for each in shown]
    told = {"settings": settings, "sources": sources, "warnings": warnings}
    write_json(told)


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, float):
        return f"{value:.15g}"
    return json.dumps(value, ensure_ascii=False)
