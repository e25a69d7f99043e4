"""Which hosts may be asked in a client's name: by default none of this machine and its networks.

A client of the pool names URLs that the pool's machine then asks, from inside of firewalls: a
service that trusts loopback, the metadata of a cloud. Names are looked up before a request is sent,
that of each redirect, too; and whoever answered is looked at once more, for names may mean another
address a moment later.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.request import getproxies, proxy_bypass

import httpx
from modelpool_client.errors import Forbidden, ModelPoolError

KEY = "pull_private_addresses"
# Addresses that stand for one of IPv4 (RFC 6052).
NAT64 = ipaddress.ip_network("64:ff9b::/96")
LOW_32_BITS = (1 << 32) - 1


def is_public(text: str) -> bool:
    """Whether an address is one of the internet, for everybody. PURE."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            within = ipaddress.IPv4Address(int(address) & LOW_32_BITS)
        if within is not None:
            return is_public(str(within))
    return address.is_global and not address.is_multicast


def refuse_host(request: httpx.Request) -> None:
    """Let through what is for the internet; a proxy looks names up itself, and knows whom to ask.

    Raises:
        Forbidden: code ``private_address``.
    """
    host = request.url.host.strip("[]")
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
    except OSError:
        return  # then nobody can be asked either
    _refuse(host, found)


def refuse_peer(response: httpx.Response) -> None:
    """Let through the answer of whom ``refuse_host`` let through.

    Raises:
        Forbidden: code ``private_address``.
    """
    stream = response.extensions.get("network_stream")
    peer = stream.get_extra_info("server_addr") if stream is not None else None
    if peer is not None and not _is_by_proxy(response.url):
        _refuse(response.url.host, [str(peer[0])])


def _is_by_proxy(url: httpx.URL) -> bool:
    """Then its address is the proxy's; that there are some does not mean that this was by one."""
    named = {url.scheme, "all"} & getproxies().keys()
    return bool(named) and not proxy_bypass(url.host)


def _refuse(host: str, addresses: Iterable[str]) -> None:
    if not all(map(is_public, addresses)):
        raise private(host)


def private(host: str) -> ModelPoolError:
    """Why such a host is not asked."""
    text = f"{host} is an address of this machine or its networks, which clients may not have asked"
    return Forbidden(f"{text}; {KEY}: true in the config file allows it", code="private_address")
