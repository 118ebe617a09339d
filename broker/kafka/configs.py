"""Configs described and altered by clients of Kafka's protocol (KIP-133, KIP-226, KIP-339)."""

from collections.abc import Sequence

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    AlterConfigsRequest,
    ConfigEntry,
    ConfigOp,
    ConfigsAltered,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
)

from ..replica import Refused
from .caller import Caller
from .entities import Entity, Fields, field, in_turns
from .header import Header
from .sources import BROKER, TOPIC, config_source, config_type
from .versions import ApiKey
from .view import BrokerView, failed

_OPERATIONS = ("set", "delete", "append", "subtract")


class _Resource:
    """Whose configs. Raises Refused for a kind that has none here."""

    def __init__(self, resource: Entity) -> None:
        self.topic: str | None = None
        self.broker = ""
        if resource.resource_type == TOPIC:
            self.topic = resource.resource_name
        elif resource.resource_type == BROKER:
            self.broker = resource.resource_name
            if self.broker and not (self.broker.isascii() and self.broker.isdigit() and len(self.broker) <= 10):
                raise Refused(ErrorCode.INVALID_REQUEST, f"a broker's name is its number, not {self.broker!r}")
            self.broker = self.broker.lstrip("0")
        else:
            raise Refused(ErrorCode.INVALID_REQUEST, f"resources of type {resource.resource_type} have no configs here")


async def describe_configs(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """Who asks for the same twice is told once: what a short request can bring is bounded by what there is."""
    asked = dict.fromkeys(request.resources)
    return {"results": [await _described(view, resource, request) async for resource in in_turns(asked)]}


async def _described(view: BrokerView, resource: Entity, request: Entity) -> Fields:
    configs: Sequence[ConfigEntry] = ()
    error, message = ErrorCode.NONE, None
    try:
        whose = _Resource(resource)
        asked = DescribeConfigsRequest(whose.topic, whose.broker)
        configs = (await view.ask(asked, DescribeConfigsResponse)).configs
    except Refused as refused:
        error, message = failed(refused)
    wanted = resource.configuration_keys  # none of them is all of them
    return {
        "error_code": error,
        "error_message": message,
        "resource_type": resource.resource_type,
        "resource_name": resource.resource_name,
        "configs": [_config(config, request) for config in configs if not wanted or config.name in wanted],
    }


def _config(config: ConfigEntry, request: Entity) -> Fields:
    source = config_source(config.source)
    value = config.value
    synonyms = [{"name": config.name, "value": value, "source": source}] if request.include_synonyms else []
    return {
        "name": config.name,
        "value": value,
        "read_only": config.read_only,
        "config_source": source,
        "is_sensitive": False,
        "synonyms": synonyms,
        "config_type": config_type(config.kind),
        "documentation": config.says if field(request, "include_documentation", False) else None,
    }


async def incremental_alter_configs(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    return {"responses": [await _altered(view, each, request, replace=False) for each in request.resources]}


async def alter_configs(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """The older request: what is not named is unset."""
    return {"responses": [await _altered(view, each, request, replace=True) for each in request.resources]}


async def _altered(view: BrokerView, resource: Entity, request: Entity, *, replace: bool) -> Fields:
    error, message = ErrorCode.NONE, None
    try:
        whose = _Resource(resource)
        changes = tuple(_change(config) for config in resource.configs)
        wanted = AlterConfigsRequest(whose.topic, whose.broker, changes, replace, bool(request.validate_only))
        await view.ask(wanted, ConfigsAltered)
    except Refused as refused:
        error, message = failed(refused)
    return {
        "error_code": error,
        "error_message": message,
        "resource_type": resource.resource_type,
        "resource_name": resource.resource_name,
    }


def _change(config: Entity) -> ConfigOp:
    number = field(config, "config_operation", 0)
    if not 0 <= number < len(_OPERATIONS):
        raise Refused(ErrorCode.INVALID_REQUEST, f"there is no operation {number} on configs")
    operation = _OPERATIONS[number]
    if config.value is None and operation != "delete":
        raise Refused(ErrorCode.INVALID_REQUEST, f"{config.name} has no value")
    return ConfigOp(config.name, operation, "" if operation == "delete" else config.value)  # type: ignore[arg-type]


async def list_config_resources(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """What configs there are to describe (KIP-1142); version 0 asks for telemetry's, of which there are none."""
    wanted = set(field(request, "resource_types", ())) if header.version else {0}
    everything = not wanted
    image = view.image
    resources = [(TOPIC, name) for name in sorted(image.topics)] if everything or TOPIC in wanted else []
    if everything or BROKER in wanted:
        resources += [(BROKER, str(broker_id)) for broker_id in sorted(image.brokers)]
    return {
        "error_code": ErrorCode.NONE,
        "config_resources": [{"resource_name": name, "resource_type": kind} for kind, name in resources],
        "client_metrics_resources": [],
    }


HANDLERS = {
    ApiKey.DESCRIBE_CONFIGS: describe_configs,
    ApiKey.ALTER_CONFIGS: alter_configs,
    ApiKey.INCREMENTAL_ALTER_CONFIGS: incremental_alter_configs,
    ApiKey.LIST_CONFIG_RESOURCES: list_config_resources,
}
