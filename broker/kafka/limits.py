"""How much one connection may ask for, and how long it may take."""

from dataclasses import dataclass

from ..config import Settings


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one connection. ``requests``, ``request_bytes``: unanswered, then it is not read. ``first_s``: for the first
    request to come; ``frame_timeout_s``: for any to become whole, and for an answer to be taken."""

    requests: int
    request_bytes: int
    frame_bytes: int
    first_s: float
    frame_timeout_s: float
    idle_s: float


def limits_of(settings: Settings) -> Limits:
    """See Settings for what each means."""
    return Limits(
        requests=settings.stream_requests_max,
        request_bytes=settings.stream_inflight_bytes_max,
        frame_bytes=settings.frame_bytes_max,
        first_s=settings.handshake_timeout_ms / 1000,
        frame_timeout_s=settings.stream_send_timeout_ms / 1000,
        idle_s=settings.connections_max_idle_ms / 1000,
    )
