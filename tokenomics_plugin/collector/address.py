"""Binding an address, with an error that a person can act on."""

from __future__ import annotations

import socket

from tokenomics_plugin.collector.config import CollectorError

__all__ = ["bind", "bracketed"]


def bind(host: str, port: int, *, purpose: str) -> socket.socket:
    """A socket that holds `host:port`; port 0 takes a free one.

    Raises:
        CollectorError: If it is taken, or not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol spelled out asyncio sets TCP_NODELAY; without, each answer would wait 40 ms for an ACK.
        bound = socket.socket(family, kind, protocol)
        try:
            # A port that was left a moment ago may be taken again, as after a crash.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise CollectorError(f"cannot listen on {host}:{port} for {purpose}: {error}; choose another port") from error
    return bound


def bracketed(host: str) -> str:
    """A host as it stands before `:port`, IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host
