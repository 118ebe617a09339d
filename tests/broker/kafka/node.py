"""A node with a Kafka port in a thread of its own, and a raw connection to it."""

import socket
import struct
from types import TracebackType
from typing import Any, Self

from ottla.broker.kafka.versions import ApiKey

from .kio_bytes import frame_of, on_the_wire, read_response, split_header

ANSWER_S = 30.0


class Raw:
    """One connection. ``send`` and ``receive`` speak of frames without their length."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=ANSWER_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send(self, frame: bytes) -> None:
        self.write(on_the_wire(frame))

    def receive(self) -> bytes | None:
        """The next response; None where the other side has hung up."""
        start = self._read(4)
        return None if start is None else self._read(struct.unpack(">i", start)[0])

    def _read(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            try:
                more = self._socket.recv(size - len(data))
            except ConnectionResetError:
                return None
            if not more:
                return None
            data += more
        return data

    def ask(self, entity: Any) -> Any:
        """The response to one of kio's requests, read by kio."""
        key, version = ApiKey(entity.__api_key__), entity.__version__
        self.send(frame_of(entity))
        response = self.receive()
        assert response is not None, f"hung up on {key.name} of version {version}"
        _, body = split_header(key, version, response)
        return read_response(key, version, body)
