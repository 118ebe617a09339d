"""Server lists: ``host:port[,host:port ...]``."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from .errors import ConfigError

DEFAULT_PORT = 7080


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_servers(servers: str | Iterable[str]) -> tuple[Address, ...]:
    """Read a comma-separated string, or several. The port is 7080 where it is left out. Raises ConfigError."""
    texts = servers.split(",") if isinstance(servers, str) else _several(servers)
    addresses = tuple(_address(text.strip()) for text in texts if text.strip())
    if not addresses:
        raise ConfigError("no server is named.", hint="Give HOST:PORT, or several with commas between.")
    return addresses


def _several(servers: Any) -> list[str]:
    texts = list(servers) if isinstance(servers, Iterable) else [servers]
    if all(isinstance(text, str) for text in texts):
        return texts
    raise ConfigError(f"servers is {servers!r:.100}.", hint='It is a text, "HOST:PORT[,HOST:PORT]", or a list of them.')


def _address(text: str) -> Address:
    scheme, is_url, rest = text.partition("://")
    if is_url:
        hint = f"Leave {scheme}:// out: {rest.partition('/')[0]}"
        raise ConfigError(f"{text!r} is an address of the web, not HOST:PORT.", hint=hint)
    host, colon, port = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")) or (text.count(":") > 1 and not text.startswith("[")):
        host, port = text, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or set(host) & set("/ @[]") or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"{text!r} is not HOST:PORT.", hint="For example 127.0.0.1:7080.")
    return Address(host, int(port))
