"""Configs of topics and brokers, changed and told while the cluster runs."""

from collections.abc import Mapping, Sequence

from ottla.log.chance import new_id
from ottla.log.model import BrokerId

from .cluster import Cluster
from .error_codes import ErrorCode
from .errors import OttlaError, RequestFailed, error_for
from .protocol import (
    AlterConfigsRequest,
    ConfigEntry,
    ConfigOp,
    ConfigsAltered,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
    ErrorResponse,
)

TIMEOUT_S = 30.0
CHANGE_TIMEOUT_S = 12.0
DESCRIBE_TIMEOUT_S = 5.0


def text_of(value: object) -> str:
    """A config's value as Kafka spells it; of a list, commas between."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(text_of, value))
    return str(value)


async def alter_configs(
    cluster: Cluster, *, topic: str | None, broker: BrokerId | None, changes: Mapping[str, object], validate_only: bool
) -> None:
    """All changes or none; None as a value unsets. ``topic`` None: of that broker, or of all. Raises ConfigError,
    TopicNotFound, RequestFailed."""
    ops = tuple(
        ConfigOp(key, "delete") if value is None else ConfigOp(key, "set", text_of(value))
        for key, value in changes.items()
    )
    name = "" if broker is None else str(broker)
    change_id = new_id(cluster.chance)
    request = AlterConfigsRequest(topic, name, ops, validate_only=validate_only, change_id=change_id)
    response, _ = await cluster.ask_any(request, timeout_s=TIMEOUT_S, attempt_s=CHANGE_TIMEOUT_S)
    if not isinstance(response, ConfigsAltered):
        raise refusal(response)
    cluster.saw_index(response.metadata_index)
    if topic is not None:
        await cluster.refresh((topic,))


async def describe_configs(cluster: Cluster, *, topic: str | None, broker: BrokerId | None) -> tuple[ConfigEntry, ...]:
    """All configs as they hold, by name. Only a broker itself knows its own settings, so that it is asked."""
    request = DescribeConfigsRequest(topic, "" if broker is None else str(broker))
    if broker is None:
        response, _ = await cluster.ask_any(request, timeout_s=TIMEOUT_S)
    else:
        await cluster.refresh()
        connection = await cluster.connection(broker, "main")
        response = (await connection.request(request, timeout_s=DESCRIBE_TIMEOUT_S)).message
    if isinstance(response, DescribeConfigsResponse):
        return response.configs
    raise refusal(response)


def refusal(response: object) -> OttlaError:
    """The error for an answer that is none."""
    if isinstance(response, ErrorResponse):
        error = error_for(response.error, response.message)
        error.hint = response.hint
        return error
    return RequestFailed(ErrorCode.UNKNOWN_SERVER_ERROR, f"the answer is a {type(response).__name__}.")
