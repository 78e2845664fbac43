"""The JSON Schema of the settings says the same as the reader: of good files yes, of bad ones no."""

import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as effort
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # has no types of its own
from tests.support.toml_text import written
from tests.unit.test_configuration_properties import SETTINGS_OF_WORKERS, nested_by_attribute

from milvaion_trio.configuration import resolve
from milvaion_trio.configuration.keys import MAPPINGS, SETTINGS, Setting
from milvaion_trio.configuration.schema import settings_schema
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import WorkerSettings

SCHEMA = settings_schema()
VALIDATOR = Draft202012Validator(SCHEMA)

GOOD = [
    "",
    "version = 1",
    'worker_id = "w"\nmax_parallel_jobs = 1\nexecution_timeout = 1.5\nstartup_connection_timeout = -1',
    '[worker]\nworker_id = "w"\n[worker.jobs.A]\ntimeout = 1',
    '[rabbitmq]\nhost = "::1"\nport = 65535\npassword = ""\nvirtual_host = "/"\nconsumer_timeout = 0',
    '[rabbitmq]\ntls = true\nfurther_hosts = ["a", "b:1", "[::1]", "[::1]:65535"]\ndriver = "aio-pika"',
    '[rabbitmq]\nauthentication = "EXTERNAL"\ntls_ca_file = ""\ntls_key_password = ""\ntls_server_name = "h"',
    '[redis]\nconnection_string = ""\ndatabase = 0',
    '[jobs.A]\nrouting_patterns = ["a.*", "b.#"]\njitter = 1\nretry_on_timeout = true\nmax_parallel = 0',
    '[jobs."my.job"]\nconsumer_id = "x"\ntimeout = -1',
    "[jobs]\n[job_defaults]\nmax_retries = 0",
    '[schedules.a]\njob = "J"\ncron = "0 9 * * MON"\ntimezone = "Europe/Istanbul"\noverlap = "cancel-previous"',
    '[schedules."a b"]\nat = "2027-05-04T09:00:00+03:00"\ndata = \'{"to": 1}\'\nmax_runs = 1\nmisfire = "all"',
    "[worker.schedules.a]\nevery = 0.1\njitter = 0\ndisable_after = 0\nlost_after = 1\nmisfire_limit = 10000",
    'wire = "1.0"\n[offline_resilience]\ndurability = "FULL"\nenabled = false\nsync_interval_seconds = 60',
    '[health_check]\nenabled = true\n[external_scheduler]\nsource = "q"',
    "[rabbitmq]\nrouting_key_pattern = 'x'\n[jobs.A]\nlog_user_friendly_logs_via_logger = true",
    "[shutdown]\ndrain_timeout = 0\n[reporting]\nlocal_occurrences = true\n[heartbeat]\ninterval = 0.001",
]
BAD = [
    "version = 2",
    "version = 0",
    'version = "1"',
    "worker_id = 7",
    'worker_id = "two words"',
    'worker_id = ""',
    "max_parallel_jobs = 0",
    "max_parallel_jobs = 1.5",
    'max_parallel_jobs = "1"',
    'execution_timeout = "5"',
    'wire = "2.0"',
    "wire = 1.1",
    "xyzzy = 1",
    "worker = 1",
    "[worker]\nxyzzy = 1",
    "[rabbitmq]\nport = 0",
    "[rabbitmq]\nport = 70000",
    '[rabbitmq]\nport = "5672"',
    "[rabbitmq]\nhots = 'x'",
    '[rabbitmq]\nhost = ""',
    '[rabbitmq]\nhost = "localhost:5672"',
    '[rabbitmq]\nhost = "amqp://h"',
    '[rabbitmq]\nfurther_hosts = ["a:65536"]',
    '[rabbitmq]\nfurther_hosts = ["::1"]',
    '[rabbitmq]\nfurther_hosts = "a"',
    '[rabbitmq]\ndriver = "pika"',
    '[rabbitmq]\ntls = "true"',
    "[rabbitmq.tls]\nca_file = 'x'",
    "rabbitmq = 1",
    '[redis]\ncancellation_channel = ""',
    "[redis]\ndatabase = -1",
    '[heartbeat]\nenabled = "true"',
    "[heartbeat]\ninterval = 0",
    '[jobs.A]\nrouting_patterns = "a"',
    "[jobs.A]\nrouting_patterns = [1]",
    "[jobs.A]\nrouting_patterns = []",
    "worker_id = {}",
    "[rabbitmq]\nhost = []",
    "rabbitmq = []",
    "[schedules.a]\nevery = 0",
    '[schedules.a]\nevery = "5"',
    '[schedules.a]\noverlap = "sometimes"',
    "[schedules.a]\nmisfire_limit = 10001",
    "[schedules]\nnightly = '0 9 * * *'",
    "[schedules.a]\ncorn = '* * * * *'",
    "[schedules.a.data]\nto = 1",
    "[schedules.a]\ndata = 1",
    "[jobs.A]\njitter = 2",
    "[jobs.A]\nmax_retries = -1",
    "[jobs.A]\nmax_retrys = 1",
    "[jobs.A]\nnever_retry = ['x']",
    '[jobs.""]\ntimeout = 1',
    "jobs = 1",
    "[jobs]\nA = 1",
    "[health_check]\nxyzzy = 1",
    '[offline_resilience]\ndurability = "OFF"',
]


def is_read(text: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "milvaion.toml").write_text(text)
        try:
            resolve(WorkerSettings(), environ={}, folder=Path(folder))
        except SettingsError:
            return False
    return True


def test_it_is_a_schema_with_a_version() -> None:
    Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"] == "urn:milvaion-trio:settings:1"


@pytest.mark.parametrize("text", GOOD)
def test_a_good_file_is_good_for_schema_and_reader(text: str) -> None:
    assert list(VALIDATOR.iter_errors(tomllib.loads(text))) == []
    assert is_read(text)


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_bad_for_schema_and_reader(text: str) -> None:
    assert not VALIDATOR.is_valid(tomllib.loads(text))
    assert not is_read(text)


@given(SETTINGS_OF_WORKERS)
@effort(max_examples=40)
def test_any_settings_written_as_toml_are_valid(settings: WorkerSettings) -> None:
    text = written(nested_by_attribute(settings))

    assert list(VALIDATOR.iter_errors(tomllib.loads(text))) == []


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: ".".join(setting.place))
def test_every_setting_is_described(setting: Setting) -> None:
    """With the words that the documentation has for it."""
    schema: object = SCHEMA
    chosen = {mapped.any_name for mapped in MAPPINGS}
    for name in setting.place:
        assert isinstance(schema, dict)
        schema = schema["additionalProperties"] if name in chosen else schema["properties"][name]

    assert isinstance(schema, dict)
    assert schema["description"]


@pytest.mark.parametrize(
    ("section", "secret"), [("rabbitmq", "password"), ("rabbitmq", "tls_key_password"), ("redis", "password")]
)
def test_no_secret_has_a_default_in_it(section: str, secret: str) -> None:
    """An editor would offer it."""
    properties = SCHEMA["properties"]
    assert isinstance(properties, dict)

    assert properties[section]["properties"][secret].keys() == {"type", "description"}
