"""Connection strings of Redis: what .NET workers have in their settings must mean the same here."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.redis_address import RedisAddress, RedisHost, parse_redis_address
from milvaion_trio.model.settings import RedisSettings

SECRET = "s3cret-canary"
HERE = (RedisHost("localhost", 6379),)


def problems(connection_string: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        parse_redis_address(connection_string)
    return raised.value.problems


@pytest.mark.parametrize(
    ("connection_string", "hosts"),
    [
        ("localhost:6379", HERE),
        ("localhost", HERE),
        (" localhost : 6379 ", ()),
        ("  localhost:6379 , ", HERE),
        ("redis_1.my-net:1", (RedisHost("redis_1.my-net", 1),)),
        ("10.0.0.1:65535", (RedisHost("10.0.0.1", 65535),)),
        ("[::1]", (RedisHost("::1", 6379),)),
        ("[::1]:7000", (RedisHost("::1", 7000),)),
        ("2001:db8::1", (RedisHost("2001:db8::1", 6379),)),
        ("a:1,b,[::1]:3", (RedisHost("a", 1), RedisHost("b", 6379), RedisHost("::1", 3))),
        ("a:1,ssl=false,b:2", (RedisHost("a", 1), RedisHost("b", 2))),
        ("localhost,ssl=true", (RedisHost("localhost", 6380),)),
        ("localhost:6379,ssl=true", HERE),
        ("redis://localhost", HERE),
        ("REDIS://localhost:1/0", (RedisHost("localhost", 1),)),
        ("rediss://localhost", HERE),
        ("redis://[::1]:7000", (RedisHost("::1", 7000),)),
    ],
)
def test_servers(connection_string: str, hosts: tuple[RedisHost, ...]) -> None:
    """6379 where no port is said; 6380 with `ssl=true`, as StackExchange.Redis has it."""
    if hosts:
        assert parse_redis_address(connection_string).hosts == hosts
    else:
        problems(connection_string)


def test_options() -> None:
    """In any casing, with spaces around; the last one counts."""
    address = parse_redis_address(
        "h, USER=someone , password = a=b ,ssl=True,connectTimeout=1500,connectTimeout=2500,channelPrefix=x:,ssl=no"
    )

    assert address == RedisAddress(
        hosts=(RedisHost("h", 6379),),
        username="someone",
        password="a=b",
        tls=False,
        connect_timeout=2.5,
        channel_prefix="x:",
    )


@pytest.mark.parametrize(
    ("url", "username", "password", "tls"),
    [
        ("redis://h", None, None, False),
        ("redis://:pass@h", None, "pass", False),
        ("rediss://user:pa%40ss%2F@h", "user", "pa@ss/", True),
        ("redis://user@h", "user", None, False),
    ],
)
def test_urls(url: str, username: str | None, password: str | None, tls: bool) -> None:
    address = parse_redis_address(url)

    assert (address.username, address.password, address.tls) == (username, password, tls)


@pytest.mark.parametrize("connection_string", ["h", "h,password=old", "redis://:old@h"])
def test_the_password_of_the_setting_counts_for_more(connection_string: str) -> None:
    """.NET appends it to the string (WIRE.md 10), where the last one counts."""
    assert parse_redis_address(connection_string, "new").password == "new"


def test_options_without_effect_are_passed_over_and_unknown_ones_noted() -> None:
    """A note has no name either: `password=a,b=c` would show a piece of a password. It says what may be meant."""
    known = parse_redis_address(
        "h,abortConnect=false,name=me,syncTimeout=1,defaultDatabase=3,TIEBREAKER=,protocol=resp3"
    )
    noted = parse_redis_address("h,passwort=x,sslHost=y")
    strange = parse_redis_address("h,connect_time_out=1,password=a,b=c")

    assert known.notes == ()
    assert noted.notes == (
        "Worker:Redis:ConnectionString: part 2 is no option this worker knows; ignored; did you mean password?",
        "Worker:Redis:ConnectionString: sslHost has no effect; the certificate must be that of the server's name",
    )
    assert strange.notes == (
        "Worker:Redis:ConnectionString: part 2 is no option this worker knows; ignored; did you mean connectTimeout?",
        "Worker:Redis:ConnectionString: part 4 is no option this worker knows; ignored",
    )
    assert len(parse_redis_address("redis://h?x=1").notes) == 1


@pytest.mark.parametrize(
    ("connection_string", "says"),
    [
        ("", "it names no server"),
        (",,", "it names no server"),
        ("ssl=true", "it names no server"),
        ("h:x", "part 1 is no server: its port"),
        ("h:", "part 1 is no server: its port"),
        ("h:0", "part 1 is no server: its port"),
        ("a,h:65536", "part 2 is no server: its port"),
        ("[::1", "part 1 is no server"),
        ("[::g]:1", "part 1 is no server: what looks like an IPv6 address is none"),
        ("a:b:c", "part 1 is no server: what looks like an IPv6 address is none"),
        ("user:pass@h:1", "part 1 is no server"),
        ("http://h", "part 1 is no server"),
        ("!/run/redis.sock", "part 1 is no server"),
        ("h,ssl=maybe", "ssl must be true or false"),
        ("h,connectTimeout=0", "connecttimeout must be a number of milliseconds, 1 or more"),
        ("h,connectTimeout=5s", "connecttimeout must be a number of milliseconds, 1 or more"),
        ("h,password=a,b", "part 3 follows the password and has no name"),
        ("h,serviceName=x", "serviceName is not supported"),
        ("redis://", "the URL must be"),
        ("redis://h:x", "the URL must be"),
        ("redis://h:0", "the URL must be"),
        ("redis://[::1", "the URL must be"),
        ("redis://h,password=x", "the URL must be"),
    ],
)
def test_a_mistake_names_the_setting_and_the_part(connection_string: str, says: str) -> None:
    (problem,) = problems(connection_string)

    assert problem.startswith("Worker:Redis:ConnectionString: ")
    assert says in problem


def test_all_mistakes_are_told_at_once() -> None:
    assert len(problems("h:x,i:y,ssl=maybe,connectTimeout=x")) == 4


@given(st.text(max_size=60) | st.text("ab:,=@/[]redispasowl1 %#?", max_size=40).map(lambda text: f"redis://{text}"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        address = parse_redis_address(text)
    except SettingsError:
        return
    assert address.hosts
    assert all(host.name and 1 <= host.port <= 65535 for host in address.hosts)


@given(st.text("abc,=@:/ ", max_size=20))
def test_no_mistake_shows_a_password(rest: str) -> None:
    """Not even one that was written wrongly."""
    for text in (
        f"h,password={SECRET}{rest}",
        f"h,password={rest}{SECRET}",
        f"redis://u:{rest}{SECRET}{rest}@h:x{rest}",
    ):
        shown = repr(RedisSettings(connection_string=text))
        try:
            address = parse_redis_address(text)
            shown += repr(address.notes)
        except SettingsError as error:
            shown += repr(error) + str(error)
        assert SECRET not in shown


@pytest.mark.parametrize(
    ("string", "shown"),
    [
        ("h:6379", "h:6379"),
        ("[::1]:6379,ssl=true", "[::1]:6379,ssl=***"),
        (f"h:6379,{SECRET}", "h:6379,***"),
        (f"h:6379,{SECRET},ssl=true", "h:6379,***,ssl=***"),
        (f"h:6379,{SECRET}=x", "h:6379,***"),
        (f"h:6379,{SECRET}@x", "***"),
        (f"h:6379,x@{SECRET}", "***"),
        (f"h:{SECRET}", "h***"),
        ("redis://h:6379/1", "redis://h:6379/1"),
        (f"redis://h/{SECRET}", "redis://h/***"),
        (f"redis://h/x@{SECRET}", "redis://***"),
        (f"redis://h?password={SECRET}", "redis://h?***"),
        (f"redis://h,password={SECRET}", "redis://h,***"),
        (f"redis://h:{SECRET}", "redis://h***"),
    ],
)
def test_only_what_surely_is_no_password_is_shown(string: str, shown: str) -> None:
    """A server, and the name of a known option; a password may stand there without any name."""
    assert f"connection_string={shown!r}" in repr(RedisSettings(connection_string=string))


def test_settings_and_addresses_never_show_a_password() -> None:
    """Of a URL too, and of a password with a comma in it."""
    strings = [
        f"h:1,password={SECRET},ssl=true",
        f"h:1,password=x,{SECRET}",
        f"h:1, Password = {SECRET}",
        f"redis://user:{SECRET}@h:1/0",
        f"rediss://:{SECRET}@h",
        f"user:{SECRET}@h:1",
        f"h:1,passwort={SECRET}",
    ]
    for string in strings:
        assert SECRET not in repr(RedisSettings(connection_string=string))
    assert "'h:1,password=***'" in repr(RedisSettings(connection_string=strings[0]))
    assert "redis://***@h:1/0" in repr(RedisSettings(connection_string=strings[3]))
    assert SECRET not in repr(evolve(RedisSettings(), password=SECRET))
    address = parse_redis_address(strings[0])
    assert address.password == SECRET
    assert SECRET not in repr(address) + str(address)
