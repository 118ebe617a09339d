"""HMACs over the parts of an HTTP request or answer between nodes: pure."""

import hashlib
import hmac

NONCE_HEADER = "X-Ottla-Nonce"
PROOF_HEADER = "X-Ottla-Proof"


def prove(secret: bytes | None, *parts: str | int | bytes) -> str:
    """HMAC-SHA256 over the parts, each after its length, as hex; empty without a secret."""
    if secret is None:
        return ""
    encoded = [part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape") for part in parts]
    transcript = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
    return hmac.new(secret, transcript, hashlib.sha256).hexdigest()


def proves(shown: str, secret: bytes | None, *parts: str | int | bytes) -> bool:
    """Whether ``shown`` is the proof of these parts; without a secret, whether it is empty."""
    return hmac.compare_digest(prove(secret, *parts).encode(), shown.encode("utf-8", "replace"))
