"""Where Redis is, read from a connection string.

The string is StackExchange.Redis', as .NET workers have it in their settings: `host:port[,host:port…][,name=value…]`.
A URL, `redis://` or with TLS `rediss://`, is taken too.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from attrs import evolve, field, frozen

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings_rules import hidden

__all__ = [
    "CONNECTION_STRING",
    "DATABASE",
    "PASSWORD",
    "RedisAddress",
    "RedisHost",
    "parse_redis_address",
    "without_password",
]

CONNECTION_STRING = "Worker:Redis:ConnectionString"
PASSWORD = "Worker:Redis:Password"
DATABASE = "Worker:Redis:Database"

_PLAIN_PORT, _TLS_PORT = 6379, 6380
"""Where nothing else is said; the second is StackExchange's with `ssl=true`, a URL has none of its own."""

# Pub/sub ignores databases (WIRE.md 5.1), and this worker has its own ways to connect again and to notice silence.
_WITHOUT_EFFECT = re.compile(
    "abortConnect|allowAdmin|asyncTimeout|checkCertificateRevocation|configChannel|configCheckSeconds|connectRetry|"
    "defaultDatabase|highIntegrity|highPriorityThreads|keepAlive|libname|name|preserveAsyncOrder|protocol|resolveDns|"
    "responseTimeout|setlib|sslProtocols|syncTimeout|tiebreaker|version|writeBuffer",
    re.IGNORECASE,
)
"""Options of StackExchange.Redis that change nothing here."""

_SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[\w.-]*)(:[0-9]{1,5}(?![^,/?#\s]))?")
"""What is shown of the first server."""

_OPTIONS = frozenset(["user", "password", "ssl", "connecttimeout", "channelprefix", "servicename", "sslhost"])

V = TypeVar("V")


@frozen
class RedisHost:
    """One server."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@frozen(kw_only=True)
class RedisAddress:
    """One Redis: servers to try in turn, and how."""

    hosts: tuple[RedisHost, ...]
    username: str | None = None
    password: str | None = field(default=None, repr=hidden)
    tls: bool = False
    connect_timeout: float = 5.0
    """Seconds for a try to connect, all servers together; StackExchange's default."""
    channel_prefix: str = ""
    """StackExchange puts it before the name of every channel."""
    notes: tuple[str, ...] = ()
    """What was said and is not heeded, for a person to read."""

    def __str__(self) -> str:
        return ", ".join(str(host) for host in self.hosts)


def parse_redis_address(connection_string: str, password: str = "") -> RedisAddress:
    """Read a connection string; a password of its own setting counts for more, as .NET appends it (WIRE.md 10).

    Raises `SettingsError` with a line per mistake. No text of it shows a value: any may be a part of a password.
    """
    text = connection_string.strip()
    problems: list[str] = []
    address = (_from_url if re.match(r"rediss?://", text, re.IGNORECASE) else _from_parts)(text, problems)
    if problems:
        raise SettingsError([f"{CONNECTION_STRING}: {problem}" for problem in problems])
    return evolve(address, password=password) if password else address


def without_password(connection_string: object) -> str:
    """Its `repr` for people: the first server and what is surely no part of a password; `***` is all the rest.

    A password may stand anywhere, without a name, behind a misspelt one, or as the path of a URL, and it may hold `@`,
    `,` and `=`. So all before the last `@` of the servers is hidden, and all behind the first name of an option.
    """
    text = connection_string if isinstance(connection_string, str) else ""
    scheme = re.match("(?i)(rediss?://)?", text)[0]  # type: ignore[index] # it always matches
    option = None if scheme else re.search(r",\s*(\w+)\s*=", text)
    user, at, rest = text[len(scheme) : option.start() if option else None].rpartition("@")
    if re.search("[,/?#]", user):  # what follows the @ may be a part of a password as well
        return repr(f"{scheme}***")
    server = _SERVER.match(rest)[0]  # type: ignore[index] # it always matches
    more = rest[len(server) :].strip()
    if more and not (scheme and re.fullmatch("/[0-9]{0,2}", more)):
        more = f"{more[0] if more[0] in ',/?' else ''}***"
    shown = f"{scheme}{'***@' if at else ''}{server}{more}"
    if option is not None:
        name = option[1]
        is_known = name.lower() in _OPTIONS or _WITHOUT_EFFECT.fullmatch(name)
        shown += f",{name}=***" if is_known else ",***"
    return repr(shown)


# --- StackExchange's form -------------------------------------------------------------------------------------------


def _from_parts(text: str, problems: list[str]) -> RedisAddress:
    hosts: list[tuple[str, int | None]] = []
    options: dict[str, str] = {}
    notes: list[str] = []
    last = ""
    for number, part in enumerate(text.split(","), start=1):
        name, separator, value = (each.strip() for each in part.partition("="))
        if separator:
            last = name.lower()
            options[last] = value  # the last one counts
            if last not in _OPTIONS and not _WITHOUT_EFFECT.fullmatch(last):
                meant = get_close_matches(last, _SPELLED, n=1, cutoff=0.75)
                hint = f"; did you mean {_SPELLED[meant[0]]}?" if meant else ""
                notes.append(f"{CONNECTION_STRING}: part {number} is no option this worker knows; ignored{hint}")
        elif name and last == "password":
            problems.append(
                f"part {number} follows the password and has no name. A password with a comma goes into {PASSWORD}; "
                "servers come first."
            )
        elif name:
            try:
                hosts.append(_host(name))
            except ValueError as error:
                problems.append(f"part {number} is no server: {error}.")
    if not hosts and not problems:
        problems.append("it names no server; the first part must be one, as in localhost:6379.")
    if "servicename" in options:
        problems.append("serviceName is not supported: name the Redis servers themselves, not those of Sentinel.")
    if "sslhost" in options:
        notes.append(f"{CONNECTION_STRING}: sslHost has no effect; the certificate must be that of the server's name")
    tls = _value(options, "ssl", _truth, False, problems)
    port = _TLS_PORT if tls else _PLAIN_PORT
    return RedisAddress(
        hosts=tuple(RedisHost(name, port if given is None else given) for name, given in hosts),
        username=options.get("user") or None,
        password=options.get("password") or None,
        tls=tls,
        connect_timeout=_value(options, "connecttimeout", _milliseconds, 5.0, problems),
        channel_prefix=options.get("channelprefix", ""),
        notes=tuple(notes),
    )


_SPELLED = {
    name.lower(): name
    for name in (
        *("user", "password", "ssl", "connectTimeout", "channelPrefix", "serviceName", "sslHost"),
        *_WITHOUT_EFFECT.pattern.split("|"),
    )
}
"""What may be meant. The name of what is not known stays unsaid, as it may be a piece of a password with a comma."""


def _host(text: str) -> tuple[str, int | None]:
    """Name and port, if there is one. Raises `ValueError`, whose text says what is wrong and shows nothing."""
    if bracketed := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text):
        name, port = bracketed.groups()
        return _ipv6(name), None if port is None else _port(port)
    if text.count(":") > 1:
        return _ipv6(text), None
    name, separator, port = text.partition(":")
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError("a name has letters, digits, '.', '-' and '_' only, an IPv6 address stands in brackets")
    return name, _port(port) if separator else None


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError("what looks like an IPv6 address is none") from None


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError("its port must be a number from 1 to 65535")
    return int(text)


def _value(options: Mapping[str, str], name: str, read: Callable[[str], V], otherwise: V, problems: list[str]) -> V:
    if name not in options:
        return otherwise
    try:
        return read(options[name])
    except ValueError as error:
        problems.append(f"{name} must be {error}.")
        return otherwise


def _truth(text: str) -> bool:
    truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower())
    if truth is None:
        raise ValueError("true or false")
    return truth


def _milliseconds(text: str) -> float:
    if not re.fullmatch("[0-9]{1,9}", text) or not int(text):
        raise ValueError("a number of milliseconds, 1 or more")
    return int(text) / 1000


# --- as a URL -------------------------------------------------------------------------------------------------------


def _from_url(text: str, problems: list[str]) -> RedisAddress:
    try:
        url = urlsplit(text)
        name, port = url.hostname, url.port
        if not name or port == 0:
            raise ValueError
        host = RedisHost(_host(f"[{name}]" if ":" in name else name)[0], port or _PLAIN_PORT)
    except ValueError:  # its text may show the password
        host = RedisHost("", 0)
        problems.append(
            "the URL must be redis://[[user]:password@]host[:port]; in user and password, write special characters as "
            "%XX."
        )
        return RedisAddress(hosts=(host,))
    return RedisAddress(
        hosts=(host,),
        username=unquote(url.username or "") or None,
        password=unquote(url.password or "") or None,
        tls=url.scheme == "rediss",
        notes=(f"{CONNECTION_STRING}: what follows '?' in the URL has no effect",) if url.query else (),
    )
