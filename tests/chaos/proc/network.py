"""The loopback between the nodes: cuts by direction, loss and resets, by nftables, with counts of what they met."""

import asyncio
import subprocess

import msgspec

from ..arena import Pair

TABLE = """
table inet chaos {
    counter cut { }
    counter lost { }
    set cut { type ipv4_addr . ipv4_addr; }
    chain loss { }
    chain input {
        type filter hook input priority 0; policy accept;
        ip saddr . ip daddr @cut counter name cut drop
        jump loss
    }
}
"""
LOSS_SCALE = 1000


def address_of(host: str) -> str:
    """``b3`` is 127.0.1.3."""
    return f"127.0.1.{int(host.removeprefix('b'))}"


class Network:
    """Needs a room (room.py). Every method takes some milliseconds."""

    async def open(self) -> None:
        """Set up the filter; nothing is stopped yet."""
        await _nft(TABLE)

    async def cut(self, pairs: set[Pair]) -> None:
        """Drop what goes in these directions, in addition to what is cut."""
        if pairs:
            elements = ", ".join(sorted(f"{address_of(a)} . {address_of(b)}" for a, b in pairs))
            await _nft(f"add element inet chaos cut {{ {elements} }}")

    async def lose(self, share: float) -> None:
        """Drop this share of all packets from or to nodes."""
        drop = f"numgen random mod {LOSS_SCALE} <= {max(0, int(share * LOSS_SCALE) - 1)} counter name lost drop"
        from_nodes, to_nodes = "ip saddr 127.0.1.0/24", "ip saddr != 127.0.1.0/24 ip daddr 127.0.1.0/24"
        rules = [f"add rule inet chaos loss {those} {drop}" for those in (from_nodes, to_nodes)]
        await _nft("\n".join(["flush chain inet chaos loss", *rules]))

    async def reset(self, first: str, second: str) -> int:
        """Break every connection between two hosts; how many sockets there were."""
        broken = 0
        for source, target in ((first, second), (second, first)):
            listed = await _run("ss", "-HKtn", "src", address_of(source), "dst", address_of(target))
            broken += len(listed.splitlines())
        return broken

    async def heal(self) -> tuple[int, int]:
        """Let everything through; how many packets were dropped by cuts and by loss since the last healing."""
        await _nft("flush set inet chaos cut\nflush chain inet chaos loss")
        return await _reset_counter("cut"), await _reset_counter("lost")


async def _reset_counter(name: str) -> int:
    listed = msgspec.json.decode(await _run("nft", "-j", "reset", "counter", "inet", "chaos", name))
    return next(item["counter"]["packets"] for item in listed["nftables"] if "counter" in item)


async def _nft(script: str) -> None:
    await _run("nft", "-f", "-", given=script)


async def _run(*command: str, given: str = "") -> str:
    """What it prints. Raises RuntimeError with what it complains of."""
    done = await asyncio.to_thread(subprocess.run, command, input=given, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{given}")
    return done.stdout
