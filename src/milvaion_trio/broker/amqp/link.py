"""A link of our own making: what the settings say becomes a stream, a login and a connection, in one time limit.

Separate from the connection because only here do settings matter, and the words for what fails.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

import trio

from milvaion_trio.broker.amqp import tls
from milvaion_trio.broker.amqp.connection import Connection
from milvaion_trio.broker.amqp.protocol import Login, Protocol
from milvaion_trio.broker.connecting import connect_tcp, refusal, silence, tls_refusal
from milvaion_trio.broker.link import Endpoint, Link, Listener
from milvaion_trio.model.errors import LinkLost, LinkRefused
from milvaion_trio.model.settings import RabbitMQSettings

__all__ = ["open_link"]

PRODUCT: Final = "milvaion-trio"
VERSION: Final = version(PRODUCT)
"""Read from the disk, so not at every connection."""


@asynccontextmanager
async def open_link(endpoint: Endpoint, listener: Listener) -> AsyncIterator[Link]:
    """A link for as long as the context is open. If cancelled, it is closed in an orderly way.

    Raises `LinkLost`, `LinkRefused` where trying again changes nothing.
    What is raised inside comes out as it is, in no group.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            with trio.move_on_after(endpoint.connect_timeout) as limit:
                stream = await _stream(endpoint)
                connection = Connection(stream, Protocol(_login(endpoint)), endpoint, listener)
                nursery.start_soon(connection.run)
                try:
                    await connection.open()
                except LinkLost as error:
                    await connection.close()  # noqa: ASYNC102,ASYNC120  # shielded and bounded in there
                    raise _refusal(endpoint, connection, error) from error
                except BaseException:
                    await connection.close()  # noqa: ASYNC102  # shielded and bounded in there
                    raise
            if limit.cancelled_caught:
                raise silence(endpoint.where, endpoint.connect_timeout)
            try:
                yield connection
            finally:
                await connection.close()  # noqa: ASYNC102  # shielded and bounded in there
        except BaseException as error:  # noqa: ASYNC103  # raised again below, out of the nursery
            failure = error
        # A cancellation from outside is in `failure` already; the nursery must not raise it again, in a group.
        nursery.cancel_scope.shield = True
    if failure is not None:
        raise failure


async def _stream(endpoint: Endpoint) -> trio.abc.Stream:
    """TCP, or TLS over it; raises `LinkLost`. If cancelled, there is none."""
    settings, address = endpoint.settings, endpoint.address
    context = _context(settings) if settings.tls else None
    stream = await connect_tcp(address.host, address.port)
    if context is None:
        return stream
    name = settings.tls_server_name or address.host
    try:
        # Closed in peace only by AMQP: what TLS says at the end waits for a peer that may be gone.
        secured = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
        await secured.do_handshake()
    except (trio.BrokenResourceError, OSError) as error:
        await trio.aclose_forcefully(stream)
        raise tls_refusal(settings, endpoint.where, error) from error
    except (ValueError, TypeError) as error:  # the latter for a zero in it
        await trio.aclose_forcefully(stream)
        raise LinkRefused(f"{name!r} can be nobody's name in TLS (Worker:RabbitMQ:TlsServerName): {error}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


def _context(settings: RabbitMQSettings) -> ssl.SSLContext:
    try:
        return tls.context(
            ca_file=settings.tls_ca_file or None,
            certificate_file=settings.tls_certificate_file or None,
            key_file=settings.tls_key_file or None,
            key_password=settings.tls_key_password or None,
        )
    except ValueError as error:
        # No `SettingsError`, which would end a worker that connects again while somebody renews a certificate.
        raise LinkRefused(str(error)) from error


def _login(endpoint: Endpoint) -> Login:
    settings = endpoint.settings
    plain = b"\0" + settings.username.encode() + b"\0" + settings.password.encode()
    is_external = settings.authentication == "EXTERNAL"
    return Login(
        mechanism=settings.authentication,
        response=b"" if is_external else plain,
        virtual_host=settings.virtual_host,
        heartbeat=endpoint.heartbeat,
        client_properties={
            "product": PRODUCT,
            "version": VERSION,
            "platform": "Python",
            "connection_name": endpoint.client_name,
        },
    )


def _refusal(endpoint: Endpoint, connection: Connection, error: LinkLost) -> LinkLost:
    """Why the handshake failed, for people who have settings to look at."""
    if connection.is_stranger:
        return LinkRefused(str(error))
    if endpoint.settings.tls and connection.failure is not None:
        return tls_refusal(endpoint.settings, endpoint.where, connection.failure)
    return refusal(endpoint.settings, endpoint.where, connection.loss.why, error)
