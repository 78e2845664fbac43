"""What `milvaion.toml` and the table of a `pyproject.toml` say, and what is wrong with them."""

import codecs
import tempfile
import time
from pathlib import Path

import pytest

from milvaion_trio import Worker
from milvaion_trio.configuration import Resolved, resolve
from milvaion_trio.configuration.effective import effective_settings
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import (
    JobSettings,
    RabbitMQSettings,
    RedisSettings,
    ShutdownSettings,
    WorkerSettings,
)
from milvaion_trio.model.wire import Dialect


def read(data: str | bytes, name: str = "milvaion.toml", *, config: str | None = None) -> Resolved:
    """What the file alone says."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        named = None if config is None else Path(config)
        return resolve(WorkerSettings(), config=named, environ={}, folder=Path(folder))


def problems(data: str | bytes, name: str = "milvaion.toml", *, config: str | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read(data, name, config=config)
    return caught.value.problems


EVERYTHING = """
version = 1
worker_id = "w"
max_parallel_jobs = 11
execution_timeout = 12
wire = "1.0"

[rabbitmq]
host = "h"
port = 14

[redis]
connection_string = "c"
database = 2

[shutdown]
drain_timeout = 1.5

[job_defaults]
max_retries = 7

[jobs.SendEmailJob]
routing_patterns = ["a.*", "b"]
retry_on_timeout = true
timeout = 0

[jobs."my.job"]
"""


def test_a_file_is_written_with_the_names_of_the_attributes() -> None:
    result = read(EVERYTHING)

    assert result.settings == WorkerSettings(
        worker_id="w",
        max_parallel_jobs=11,
        execution_timeout=12,
        wire=Dialect.V1_0,
        rabbitmq=RabbitMQSettings(host="h", port=14),
        redis=RedisSettings(connection_string="c", database=2),
        shutdown=ShutdownSettings(drain_timeout=1.5),
        job_defaults=JobSettings(max_retries=7),
        jobs={
            "SendEmailJob": JobSettings(routing_patterns=("a.*", "b"), retry_on_timeout=True, timeout=0),
            "my.job": JobSettings(),
        },
    )
    assert (result.warnings, result.sources) == ((), ("milvaion.toml",))


@pytest.mark.parametrize(
    "text",
    [
        "[rabbitmq]\nport = 1234",
        "rabbitmq.port = 1234",
        "rabbitmq = {port = 1234}",
        "[worker.rabbitmq]\nport = 1234",
        "[Worker.RabbitMQ]\nPort = 1234",
        "[worker]\nrabbit_mq = {PORT = 1234}",
        "[rabbitmq]\nport = 0x4d2",
    ],
)
def test_names_have_many_spellings_and_worker_may_be_left_out(text: str) -> None:
    for data in (text.encode(), codecs.BOM_UTF8 + text.encode(), text.replace("\n", "\r\n").encode()):
        assert read(data).settings == WorkerSettings(rabbitmq=RabbitMQSettings(port=1234))


@pytest.mark.parametrize(
    "text",
    [
        "[jobs.A]\ntimeout = 5",
        "[worker.jobs.A]\ntimeout = 5",
        "[job_consumers.A]\nexecution_timeout_seconds = 5",
        "[JobConsumers.A]\nExecutionTimeoutSeconds = 5",
    ],
)
def test_a_job_has_a_table(text: str) -> None:
    assert read(text).settings.jobs == {"A": JobSettings(timeout=5)}


def test_only_a_named_server_is_used() -> None:
    """Unlike a .NET worker, which always connects: this file is ours."""
    assert read('worker_id = "w"').settings == WorkerSettings(worker_id="w")
    assert read("[rabbitmq]").settings == WorkerSettings(rabbitmq=RabbitMQSettings())
    assert read('redis.connection_string = ""').settings.redis is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '\n\n[rabbitmq]\nhots = "x"',
            "milvaion.toml, line 4: rabbitmq.hots is no setting; did you mean rabbitmq.host?",
        ),
        ('[rabitmq]\nhost = "x"', "milvaion.toml, line 2: rabitmq is no setting; did you mean rabbitmq?"),
        ('[worker]\nworkerd = "x"', "milvaion.toml, line 2: worker.workerd is no setting; did you mean worker_id?"),
        ("port = 5672", "milvaion.toml, line 1: port is no setting; did you mean rabbitmq.port?"),
        (
            "[jobs.A]\n# a comment\nmax_retrys = 1",
            "milvaion.toml, line 3: jobs.A.max_retrys is no setting; did you mean jobs.A.max_retries?",
        ),
        (
            '[jobs."my.job"]\nmax_retrys = 1',
            'milvaion.toml, line 2: jobs.my.job.max_retrys is no setting; did you mean jobs."my.job".max_retries?',
        ),
        ("[jbos.A]\nmax_retries = 1", "milvaion.toml, line 2: jbos is no setting; did you mean jobs.A.max_retries?"),
        ("xyzzy = 1", "milvaion.toml, line 1: xyzzy is no setting."),
        ("[serilog]\nlevel = 1", "milvaion.toml, line 2: serilog is no setting."),
        ("[jobs.A]\nnever_retry = ['x']", "milvaion.toml, line 2: jobs.A.never_retry is no setting."),
    ],
)
def test_an_unknown_key_is_a_mistake_with_its_line(text: str, problem: str) -> None:
    (found,) = problems(text)

    assert found.startswith(problem)


def test_an_unknown_table_is_one_mistake() -> None:
    """Not one for each line in it."""
    assert problems('[rabitmq]\nhost = "x"\nport = 5672') == (
        "milvaion.toml, line 2: rabitmq is no setting; did you mean rabbitmq?",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('rabbitmq.port = "5672"', 'rabbitmq.port is "5672"; it must be a whole number, 1 to 65535, without quotes.'),
        ("rabbitmq.port = 5672.0", "rabbitmq.port is 5672.0; it must be a whole number, 1 to 65535."),
        ("rabbitmq.port = 70000", "rabbitmq.port is 70000; it must be a whole number, 1 to 65535."),
        ("rabbitmq.port = true", "rabbitmq.port is true; it must be a whole number, 1 to 65535."),
        ("worker_id = 7", "worker_id is 7; it must be 1 to 100 of the characters A-Z a-z 0-9 . _ -, in quotes."),
        ("wire = 1.1", "wire is 1.1; it must be one of '1.1', '1.0', in quotes."),
        ('heartbeat.enabled = "true"', 'heartbeat.enabled is "true"; it must be true or false, without quotes.'),
        ("heartbeat.enabled = 1", "heartbeat.enabled is 1; it must be true or false."),
        ("execution_timeout = inf", "execution_timeout is inf; it must be a number, 0 or more."),
        ("execution_timeout = nan", "execution_timeout is nan; it must be a number, 0 or more."),
        ("execution_timeout = 07:32:00", "execution_timeout is 07:32:00; it must be a number, 0 or more."),
        ("rabbitmq.host = 1979-05-27", "rabbitmq.host is 1979-05-27; it must be a host's name or address alone; "),
        ("rabbitmq.password = 12345", "rabbitmq.password is not shown here; it must be a text, in quotes."),
        (
            'rabbitmq.host = "amqp://guest:s3cret@localhost"',
            "rabbitmq.host is not shown here; it must be a host's name or address alone; port, user and password have "
            "settings of their own.",
        ),
        ('rabbitmq.host = "localhost:5672"', 'rabbitmq.host is "localhost:5672"; it must be a host\'s name or addr'),
        ('rabbitmq = "localhost"', "rabbitmq is a single value; it must be a section, with names below it."),
        ("rabbitmq.port.x = 1", "rabbitmq.port has names below it; it must be a whole number, 1 to 65535."),
        (
            'jobs.A.routing_patterns = "a"',
            "jobs.A.routing_patterns is a single value; it must be a list, each item a text that is not empty.",
        ),
        (
            'jobs.A.routing_patterns = ["a", 1]',
            "jobs.A.routing_patterns.1 is 1; it must be a text that is not empty, in quotes.",
        ),
        (
            'worker_id = "a"\n[worker]\nworker_id = "b"',
            "worker_id and worker.worker_id are the same setting, with different values.",
        ),
    ],
)
def test_a_value_of_another_type_is_a_mistake(text: str, problem: str) -> None:
    """No coercion: what is written in TOML has a type."""
    (found,) = problems(text)

    assert found.partition(": ")[2].startswith(problem)
    assert found.startswith("milvaion.toml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("worker_id = {}", "worker_id is an empty table; it must be 1 to 100 of the characters A-Z a-z 0-9 . _ -."),
        ("worker_id = []", "worker_id is an empty list; it must be 1 to 100 of the characters A-Z a-z 0-9 . _ -."),
        ("[worker_id]", "worker_id is an empty table; it must be 1 to 100 of the characters A-Z a-z 0-9 . _ -."),
        ("rabbitmq.host = []", "rabbitmq.host is an empty list; it must be a host's name or address alone; "),
        ("rabbitmq.password = {}", "rabbitmq.password is an empty table; it must be a text."),
        (
            "jobs.A.routing_patterns = []",
            "jobs.A.routing_patterns is an empty list; it must be a list, each item a text that is not empty, with at "
            "least one item.",
        ),
        ("jobs.A.routing_patterns = {}", "jobs.A.routing_patterns is an empty table; it must be a list, each item a "),
        (
            'jobs.A.routing_patterns = ["a", {}]',
            "jobs.A.routing_patterns.1 is an empty table; it must be a text that is not empty.",
        ),
        ("jobs.A.routing_patterns = [[]]", "jobs.A.routing_patterns.0 is an empty list; it must be a text that is no"),
        ("jobs.A.routing_patterns.x = {}", "jobs.A.routing_patterns has names below it; it must be a list, each it"),
        ("rabbitmq = []", "rabbitmq is a list; it must be a section, with names below it."),
    ],
)
def test_what_is_empty_is_no_value(text: str, problem: str) -> None:
    """TOML has no null; only a section may be empty."""
    (found,) = problems(text)

    assert found.startswith(f"milvaion.toml, line 1: {problem}")


def test_dotnets_name_for_a_single_pattern_is_no_list() -> None:
    assert read('[JobConsumers.A]\nRoutingPattern = "a"').settings.jobs["A"].routing_patterns == ("a",)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ("a = ", "line 1, column 5: Invalid value."),
        ('worker_id = "w"\nhost localhost', "line 2, column 6: Expected '=' after a key in a key/value pair."),
        ("a = 1\na = 2", "line 2, column 6: Cannot overwrite a value."),
        ("a = [1,\n", "line 2, column 1: "),
        ('a = """\nb\n', "line 3, column 1: "),
        (b'a = "\xff"', "line 1, column 6: this is not UTF-8 text."),
        (b'a = 1\nb = "x\xff"', "line 2, column 7: this is not UTF-8 text."),
        (f"b = 1\n# 1\na = {'9' * 5000}\n[", "line 3: the number is too long."),
        (f"\nmax_parallel_jobs = 0x{'F' * 5000}", "line 2: the number is too long."),
        (f"version = [0x{'F' * 5000}]", "line 1: the number is too long."),
        (f"{'a.' * 2000}a = 1", "line 1, column 1: it is nested too deep."),
        (f"a = {'[' * 5000}", "line 1, column 1: it is nested too deep."),
    ],
)
def test_what_is_no_toml_is_a_mistake_with_its_place(data: str | bytes, place: str) -> None:
    (found,) = problems(data)

    assert found.startswith(f"milvaion.toml: {place}")


def test_the_line_of_a_value_is_the_one_it_begins_on() -> None:
    """Also behind texts and lists of several lines, which may look like something else."""
    text = '''worker_id = "w"
description = """
[rabbitmq]
port = 1
"""

[jobs.A]
routing_patterns = [
  "a",  # ]
  "b",
]
other = 1
'''

    assert problems(text) == (
        "milvaion.toml, line 2: description is no setting.",
        "milvaion.toml, line 12: jobs.A.other is no setting.",
    )


@pytest.mark.parametrize(
    "value",
    [
        '"""\n[x]\n"""',
        '"""a\n"""""',
        '"""a"""" # " [',
        '"""\\"""\n"""',
        "'''\n[x]\\'''",
        "'''a\n'''''",
        '[\n"]", \'[\', # ]\n{a = "}", b = [\n]}]',
        '["\\"]",\n""]',
        "{a = [\n1]}",
        "'\\'\n",
        '1 # [\n# """\n',
    ],
)
def test_lines_are_counted_behind_any_value(value: str) -> None:
    text = f"description = {value}\n"

    for data in (text, text.replace("\n", "\r\n")):
        assert problems(f"{data}host = 1")[1].startswith(f"milvaion.toml, line {data.count(chr(10)) + 1}: host is no")


def test_long_values_of_others_cost_little_time() -> None:
    """Time by their length, not by its square: 20,000 lines take a part of a second."""
    lines = "  'something',\n" * 20_000
    text = f'[tool.other]\nnames = [\n{lines}]\ntext = """\n{lines}"""\n[tool.milvaion-trio]\nworker_id = \'w\''

    before = time.process_time()
    result = read(text, "pyproject.toml")

    assert time.process_time() - before < 2
    assert result.origins["worker_id",] == "pyproject.toml, line 40007"


# --- version --------------------------------------------------------------------------------------------------------


def test_a_file_may_name_its_version() -> None:
    assert read('version = 1\nworker_id = "w"').settings.worker_id == "w"


def test_a_newer_version_says_what_to_do_and_nothing_else() -> None:
    """Names of that version would only be called mistakes."""
    assert problems('# new\nversion = 2\nworker_name = "w"') == (
        "milvaion.toml, line 2: version is 2, and this milvaion-trio knows the names of version 1 only. "
        "Install a newer milvaion-trio, or write the file for version 1.",
    )


@pytest.mark.parametrize("version", ["0", "-1", '"1"', "1.0", "true", "1979-05-27"])
def test_any_other_version_is_none(version: str) -> None:
    (found,) = problems(f"version = {version}")

    assert found.startswith("milvaion.toml, line 1: version is ")
    assert found.endswith("; it must be 1, the version of the names in this file.")


# --- pyproject.toml -------------------------------------------------------------------------------------------------


def test_a_table_of_pyproject_says_the_same() -> None:
    text = '[project]\nname = "shop"\nversion = "2.0"\n\n[tool.milvaion-trio]\nversion = 1\nworker_id = "w"\n\n'
    text += "[tool.milvaion-trio.jobs.A]\ntimeout = 5\n"

    for config in (None, "pyproject.toml"):
        result = read(text, "pyproject.toml", config=config)

        assert result.settings == WorkerSettings(worker_id="w", jobs={"A": JobSettings(timeout=5)})
        assert result.sources == ("pyproject.toml",)
        assert result.origins["worker_id",] == "pyproject.toml, line 7"


def test_a_mistake_in_the_table_has_its_line() -> None:
    text = '[project]\nname = "shop"\n\n[tool.milvaion-trio.rabbitmq]\nhots = "x"'

    assert problems(text, "pyproject.toml") == (
        "pyproject.toml, line 5: rabbitmq.hots is no setting; did you mean rabbitmq.host?",
    )


@pytest.mark.parametrize("text", ["", "[tool.other]\nx = 1", "[project]", "no toml", "[tool\n", b"\xff", "tool = 1"])
def test_a_pyproject_without_the_table_is_not_ours(text: str | bytes) -> None:
    assert read(text, "pyproject.toml") == Resolved(WorkerSettings())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[project]", "pyproject.toml: there is no table [tool.milvaion-trio] in it."),
        ("no toml", "pyproject.toml: line 1, column 4: Expected '=' after a key in a key/value pair."),
        (b"\xff", "pyproject.toml: line 1, column 1: this is not UTF-8 text."),
    ],
)
def test_a_pyproject_that_was_named_must_have_the_table(text: str | bytes, problem: str) -> None:
    assert problems(text, "pyproject.toml", config="pyproject.toml") == (problem,)


@pytest.mark.parametrize("table", ["milvaion_trio", "milvaion", "Milvaion-Trio", "milvaiontrio"])
def test_a_table_with_nearly_our_name_is_a_mistake(table: str) -> None:
    """It would not be read, and nobody would say so."""
    assert problems(f'[tool.{table}]\nworker_id = "w"', "pyproject.toml") == (
        f"pyproject.toml: [tool.{table}] is not read; did you mean [tool.milvaion-trio]?",
    )


def test_a_broken_pyproject_with_something_of_ours_is_a_mistake() -> None:
    (found,) = problems("[tool.milvaion-trio]\nworker_id = \n", "pyproject.toml")

    assert found == "pyproject.toml: line 2, column 13: Invalid value."


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_pyproject_in_another_encoding_with_something_of_ours_is_a_mistake(encoding: str) -> None:
    """Its settings would be skipped, and nobody would say so."""
    text = '[tool.milvaion-trio]\nworker_id = "w"\n# ä\n'
    (found,) = problems(text.encode(encoding), "pyproject.toml")

    assert found.endswith(": this is not UTF-8 text.")
    assert read(text.replace("milvaion", "other").encode(encoding), "pyproject.toml") == Resolved(WorkerSettings())


def test_a_pyproject_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    """It may hold the settings. A link to itself stands for it, as root may read everything."""
    (tmp_path / "pyproject.toml").symlink_to("pyproject.toml")

    with pytest.raises(SettingsError) as caught:
        resolve(WorkerSettings(), environ={}, folder=tmp_path)
    assert caught.value.problems[0].startswith("pyproject.toml: the file cannot be read: ")


def test_a_folder_with_the_name_of_a_pyproject_is_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").mkdir()

    assert resolve(WorkerSettings(), environ={}, folder=tmp_path) == Resolved(WorkerSettings())


@pytest.mark.parametrize(
    "text",
    [
        '"amqp://u:s3cret@h" = "x"',
        '[rabbitmq]\n"amqp://u:s3cret@h" = "x"',
        '["amqp://u:s3cret@h"]\nhost = "x"',
        '["amqp://u:s3cret@h"]\n["amqp://u:s3cret@h"]',
        '[jobs."amqp://u:s3cret@h"]\nmax_retrys = "x"',
        '[jbos."amqp://u:s3cret@h"]\nmax_retries = 1',
        '[jobs."amqp://u:s3cret@h"]\nmax_retries = "x"',
        'jobs."amqp://u:s3cret@h" = "x"',
        'jobs."amqp://u:s3cret@h".max_retries.x = 1',
        'version = "amqp://u:s3cret@h"',
    ],
)
def test_a_name_that_may_be_a_password_is_not_told(text: str) -> None:
    """Somebody may have put the whole URL where a name belongs."""
    told = str(problems(text))

    assert "not shown here" in told
    assert "s3cret" not in told


def test_a_job_whose_name_may_be_a_password_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "milvaion.toml").write_text('[jobs."amqp://u:s3cret@h"]\nmax_retries = 1')
    resolved = resolve(WorkerSettings(), environ={}, folder=tmp_path)
    worker = Worker(settings=resolved.settings)

    with pytest.raises(SettingsError) as caught:
        worker.prepare()
    for told in (str(caught.value), str(resolved.jobs.values()), str(effective_settings(resolved))):
        assert "not shown here" in told
        assert "s3cret" not in told


def test_secrets_are_told_to_nobody() -> None:
    """Not when they are right, wrong, unknown, twice, or in the wrong place."""
    secret = "s3cret"
    texts = [
        f'rabbitmq.password = "{secret}"\nredis.connection_string = "h,password={secret}"',
        f'rabbitmq.password.a = "{secret}"\nredis.connection_string = ["{secret}"]',
        f'rabbitmq.password = "{secret}"\n[worker]\nrabbitmq.password = "{secret}2"',
        f'rabbitmq.pasword = "{secret}"\nredis = "h,password={secret}"',
        f'rabbitmq.host = "amqp://guest:{secret}@h"',
        f'rabbitmq.password = "{secret}',
        f'rabbitmq.password = ["{secret}"]',
    ]

    for text in texts:
        try:
            said = repr(read(text))
        except SettingsError as error:
            said = f"{error} {error!r}"
        assert secret not in said
