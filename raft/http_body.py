"""Bodies of internal requests and answers, whole and bounded."""

import aiohttp


class BodyTooLarge(ValueError):
    """There is more of it than allowed."""


async def read_body(content: aiohttp.StreamReader, most: int) -> bytes:
    """All of it, however many pieces it came in. Raises BodyTooLarge beyond ``most`` bytes, and what reading raises."""
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > most:
            raise BodyTooLarge(f"more than {most} bytes")
    return bytes(body)
