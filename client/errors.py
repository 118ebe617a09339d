"""What the SDK raises: the type says whose fault it is, the message says what to do."""

from .error_codes import ErrorCode


class OttlaError(Exception):
    """Base of every error of the SDK and of the command line.

    ``code``: stable, for scripts (``OTTLA-...``). ``retriable``: the same call may succeed later unchanged.
    ``hint``: what to do about it, or "".
    """

    code: str = "OTTLA-ERROR"
    retriable: bool = False

    def __init__(self, message: str, *, code: str | None = None, retriable: bool | None = None, hint: str = "") -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if retriable is not None:
            self.retriable = retriable
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} {self.hint}" if self.hint else message


class TopicNotFound(OttlaError):
    """No such topic or partition, and nothing made it."""

    code = "OTTLA-UNKNOWN-TOPIC-OR-PARTITION"


class TopicExists(OttlaError):
    """The topic is there already."""

    code = "OTTLA-TOPIC-ALREADY-EXISTS"


class RecordTooLarge(OttlaError):
    """A record, with its batch around it, is over the limit. ``size`` and ``limit`` in bytes."""

    code = "OTTLA-MESSAGE-TOO-LARGE"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"a record of {size} bytes is over the limit of {limit}.",
            hint="Send less, or raise the topic's max.message.bytes.",
        )
        self.size = size
        self.limit = limit


class NotEnoughReplicas(OttlaError):
    """Fewer in-sync replicas than min.insync.replicas: an acks=all write would not be safe."""

    code = "OTTLA-NOT-ENOUGH-REPLICAS"
    retriable = True


class Fenced(OttlaError):
    """Another producer or member took over this identity."""

    code = "OTTLA-INVALID-PRODUCER-EPOCH"


class DeliveryTimeout(OttlaError):
    """A record was not acknowledged in time. It may or may not have been stored."""

    code = "OTTLA-DELIVERY-TIMEOUT"


class BufferFull(OttlaError):
    """``send_nowait`` found the producer's buffer full: the brokers are slower than the caller."""

    code = "OTTLA-BUFFER-FULL"
    retriable = True


class AuthenticationFailed(OttlaError):
    """The other side did not prove what it claims to be."""

    code = "OTTLA-AUTHENTICATION-FAILED"


class ConnectFailed(OttlaError):
    """No node answered. ``attempts``: pairs of address and what happened there."""

    code = "OTTLA-CONNECT-FAILED"
    retriable = True

    def __init__(self, attempts: list[tuple[str, str]]) -> None:
        tried = "; ".join(
            (problem if problem.startswith(address) else f"{address}: {problem}").rstrip(".")
            for address, problem in attempts
        )
        super().__init__(
            f"no node answered ({tried}).", hint="Does the cluster run, and is one of its nodes at this HOST:PORT?"
        )
        self.attempts = attempts


class ConfigError(OttlaError):
    """A setting's name or value is wrong."""

    code = "OTTLA-CONFIG"


class CorruptBatchError(OttlaError):
    """A stored batch cannot be decoded: its bytes pass the CRC but its records are not records."""

    code = "OTTLA-CORRUPT-MESSAGE"


class RequestFailed(OttlaError):
    """Any other refusal by a broker. ``error`` is Kafka's code."""

    def __init__(self, error: ErrorCode, message: str) -> None:
        super().__init__(message or error.name, code=error.stable_code, retriable=error.retriable)
        self.error = error


_TYPES: dict[ErrorCode, type[OttlaError]] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: TopicNotFound,
    ErrorCode.UNKNOWN_TOPIC_ID: TopicNotFound,
    ErrorCode.TOPIC_ALREADY_EXISTS: TopicExists,
    ErrorCode.NOT_ENOUGH_REPLICAS: NotEnoughReplicas,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: NotEnoughReplicas,
    ErrorCode.INVALID_PRODUCER_EPOCH: Fenced,
    ErrorCode.INVALID_CONFIG: ConfigError,
}


def error_for(error: ErrorCode, message: str) -> OttlaError:
    """The exception for a broker's refusal."""
    kind = _TYPES.get(error)
    if kind is None:
        return RequestFailed(error, message)
    return kind(message or error.name, code=error.stable_code)
