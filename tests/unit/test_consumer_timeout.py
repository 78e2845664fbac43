"""Who may run longer than the broker waits is told so at start (DESIGN.md 5, Timeout)."""

import pytest

from milvaion_trio.policy.consumer_timeout import consumer_timeout_warnings


def test_a_limit_above_four_fifths_is_too_long() -> None:
    warnings = consumer_timeout_warnings({"Long": 1440.1, "Short": 1440.0}, 1800.0)

    assert [warning.split()[0] for warning in warnings] == ["Long"]


def test_no_limit_is_too_long_however_it_is_written() -> None:
    warnings = consumer_timeout_warnings({"None": None, "Zero": 0.0}, 1800.0)

    assert [warning.split()[0] for warning in warnings] == ["None", "Zero"]


@pytest.mark.parametrize("limit", [None, 0.0, 1e9])
def test_a_broker_that_waits_for_ever_needs_no_warning(limit: float | None) -> None:
    assert consumer_timeout_warnings({"Long": limit}, 0.0) == []


def test_a_warning_names_limit_and_setting_and_what_will_happen() -> None:
    (warning,) = consumer_timeout_warnings({"Long": 3600.0}, 1800.0)

    for fact in ("Long", "3600 s", "1800 s", "Worker:RabbitMQ:ConsumerTimeout", "closes the channel", "second time"):
        assert fact in warning
    assert "\n" not in warning
