"""Errors for people over HTTP: RFC 9457 problem JSON with the same stable code as everywhere."""

import aiohttp
import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from ottla.client.error_codes import ErrorCode
from ottla.client.errors import OttlaError, RequestFailed

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
CLIENT_LEFT = 499

_STATUS = {
    "OTTLA-UNKNOWN-TOPIC-OR-PARTITION": 404,
    "OTTLA-UNKNOWN-TOPIC-ID": 404,
    "OTTLA-GROUP-ID-NOT-FOUND": 404,
    "OTTLA-TOPIC-ALREADY-EXISTS": 409,
    "OTTLA-MESSAGE-TOO-LARGE": 413,
    "OTTLA-NOT-READY": 503,
    "OTTLA-TOO-MANY-CONNECTIONS": 503,
    "OTTLA-DELIVERY-TIMEOUT": 504,
    "OTTLA-REQUEST-TIMED-OUT": 504,
}


def problem(status: int, code: str, detail: str, *, hint: str = "", retriable: bool = False) -> web.Response:
    """A response that says what happened, to what, and what to do."""
    document = {
        "type": f"urn:ottla:error:{code}",
        "title": code,
        "status": status,
        "code": code,
        "detail": detail,
        "hint": hint,
        "retriable": retriable,
    }
    headers = {"Retry-After": "1"} if status == 503 else None
    return web.Response(status=status, body=msgspec.json.encode(document), content_type=CONTENT_TYPE, headers=headers)


def problem_for(error: OttlaError) -> web.Response:
    """The response for an error of the SDK, which this door uses itself."""
    status = _STATUS.get(error.code)
    if status is None:
        server_side = error.retriable or (
            isinstance(error, RequestFailed) and error.error is ErrorCode.UNKNOWN_SERVER_ERROR
        )
        status = 503 if server_side else 400
    message = error.args[0] if error.args else error.code
    return problem(status, error.code, str(message), hint=error.hint, retriable=error.retriable)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error of a handler into a problem; a bug of ours into one that gives nothing away."""
    try:
        return await handler(request)
    except OttlaError as error:
        return problem_for(error)
    except web.HTTPException as error:
        if error.status < 400 or error.content_type == CONTENT_TYPE:
            raise
        code = {404: "OTTLA-NO-SUCH-PATH", 405: "OTTLA-METHOD-NOT-ALLOWED", 413: "OTTLA-MESSAGE-TOO-LARGE"}.get(
            error.status, "OTTLA-INVALID-REQUEST"
        )
        if error.status == 503:
            code = "OTTLA-NOT-READY"
        if error.status == 400 and "no websocket upgrade" in (error.text or "").lower():
            detail = f"{request.path} is a WebSocket of the SDK, and this request does not ask for one"
            return problem(400, code, detail, hint="For records by curl see docs/http.md.")
        detail = f"{request.method} {request.path}: {(error.text or error.reason).strip()}"
        return problem(error.status, code, detail, hint="See docs/http.md." if error.status in (404, 405) else "")
    except (ConnectionError, aiohttp.ClientConnectionError):
        return web.Response(status=CLIENT_LEFT)  # to nobody: the client left
    except Exception:
        if request.writer.output_size:
            raise  # an answer has begun: all that is left is to break it off
        log.exception("http.request.failed", path=request.path)
        detail = "a bug of ours; the node's log has more"
        return problem(500, ErrorCode.UNKNOWN_SERVER_ERROR.stable_code, detail)
