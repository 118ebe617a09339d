"""W3C trace context in the headers of records (https://www.w3.org/TR/trace-context/): ``traceparent``, ``tracestate``.

client.producer(interceptors=[trace_headers()])          # the current span's
context = trace_context(record)                          # as the parent of the span that handles it
"""

from collections.abc import Callable
from typing import Any

from .errors import ConfigError
from .outgoing import OnSend, OutgoingRecord
from .records import ConsumerRecord

Inject = Callable[[dict[str, str]], None]
"""Writes the current trace context into a mapping of header names to values."""
Extract = Callable[[dict[str, str]], Any]
"""Makes a context of such a mapping."""

FIELDS = ("traceparent", "tracestate", "baggage")


def trace_headers(inject: Inject | None = None) -> OnSend:
    """A producer's interceptor that adds the current trace context to each record that has none. ``inject``: None for
    OpenTelemetry's propagators. Raises ConfigError where OpenTelemetry is not installed."""
    write = inject if inject is not None else _opentelemetry().inject

    def add(record: OutgoingRecord) -> OutgoingRecord:
        if any(name == "traceparent" for name, _ in record.headers):
            return record
        carrier: dict[str, str] = {}
        write(carrier)
        added = tuple((name, text.encode()) for name, text in carrier.items())
        return record._replace(headers=record.headers + added) if added else record

    return add


def trace_context(record: ConsumerRecord[Any, Any], extract: Extract | None = None) -> Any:
    """The context that a record was sent in; ``extract``: None for OpenTelemetry's, which returns its Context. Raises
    ConfigError where OpenTelemetry is not installed."""
    carrier = {name: content.decode("latin-1") for name, content in record.headers if name in FIELDS and content}
    return (extract if extract is not None else _opentelemetry().extract)(carrier)


def _opentelemetry() -> Any:
    try:
        from opentelemetry import propagate  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise ConfigError(
            "OpenTelemetry is not installed.", hint="Install opentelemetry-api, or give a function of your own."
        ) from None
    return propagate
