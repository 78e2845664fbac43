"""A private RabbitMQ that is reached over TLS too, shared by a test run like the plain one.

Separate from `servers`, which needs nothing but the standard library.
"""

from pathlib import Path

from tests.support.certificates import WORKER, make_certificates
from tests.support.servers import HOST, RabbitMQServer, free_port, is_listening, shared

__all__ = ["TlsRabbitMQServer", "tls_rabbitmq"]

_CONFIGURATION = """
listeners.ssl.1 = {host}:{port}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
"""


class TlsRabbitMQServer(RabbitMQServer):
    """On `tls_port` it speaks TLS, and looks at a certificate if it is shown one; user `WORKER` logs in by its own."""

    def __init__(self, folder: Path | None = None, *, owner: int | None = None) -> None:
        super().__init__(folder, owner=owner)
        self.tls_port = free_port()

    def start(self) -> None:
        """Start it and return when it answers AMQP, with TLS and without."""
        certificates = self.folder / "tls"
        make_certificates(certificates)
        configuration = _CONFIGURATION.format(host=HOST, port=self.tls_port, folder=certificates)
        (self.folder / "rabbitmq.conf").write_text(configuration)
        (self.folder / "plugins").write_text("[rabbitmq_auth_mechanism_ssl].\n")
        super().start()
        self.control("add_user", WORKER, "unused")
        self.control("clear_password", WORKER)

    def file(self, name: str) -> str:
        """The path of one of the files that `make_certificates` names."""
        return str(self.folder / "tls" / name)

    def new_vhost(self) -> str:
        """A new, empty virtual host in which guest and `WORKER` may do everything."""
        vhost = super().new_vhost()
        self.control("set_permissions", "-p", vhost, WORKER, ".*", ".*", ".*")
        return vhost

    def listen_otherwise(self, certificate: str, *options: str) -> int:
        """Listen at one port more with this certificate and these options of Erlang's, and return the port."""
        port = free_port()
        files = {"cacertfile": "ca.pem", "certfile": f"{certificate}.pem", "keyfile": f"{certificate}.key"}
        said = [f'{{{option}, "{self.file(name)}"}}' for option, name in files.items()]
        self.control(
            "eval", f'rabbit_networking:start_ssl_listener({{"{HOST}", {port}}}, [{", ".join([*said, *options])}], 1).'
        )
        return port

    def _answers(self) -> bool:
        return super()._answers() and is_listening(self.tls_port)


_server: TlsRabbitMQServer | None = None


def tls_rabbitmq() -> TlsRabbitMQServer:
    """The run's broker with TLS. Tests use a vhost each, and leave the broker itself alone."""
    global _server
    _server = _server or shared("tls-rabbitmq", TlsRabbitMQServer)
    return _server
