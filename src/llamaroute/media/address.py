"""Which addresses an image may be fetched from. Pure: nothing is looked up here.

A program that fetches what a caller names can be made to fetch from inside its own network (server-side request
forgery), where a router's page or a cloud machine's credentials answer. So every address is checked after DNS, the
connection goes to the very address that was checked, and every redirect begins anew.

https://www.iana.org/assignments/iana-ipv4-special-registry
https://www.iana.org/assignments/iana-ipv6-special-registry
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from ..errors import InputError
from ..types.dataclass import dataclass

__all__ = ["Place", "check_address", "place_of", "redacted", "redirected", "refusal", "scrubbed"]

_PRIVATE_V4 = {
    "10.0.0.0/8": "a private address",
    "172.16.0.0/12": "a private address",
    "192.168.0.0/16": "a private address",
    "127.0.0.0/8": "a loopback address",
    "169.254.0.0/16": "a link-local address",
    "100.64.0.0/10": "a carrier-grade NAT address",
}
_NEVER_V4 = {
    "0.0.0.0/8": "an unspecified address",
    "192.0.0.0/24": "a reserved address",
    "192.0.2.0/24": "a documentation address",
    "192.88.99.0/24": "a reserved address",
    "198.18.0.0/15": "a reserved address",
    "198.51.100.0/24": "a documentation address",
    "203.0.113.0/24": "a documentation address",
    "224.0.0.0/4": "a multicast address",
    "240.0.0.0/4": "a reserved address",
}
_PRIVATE_V6 = {
    "::1/128": "a loopback address",
    "fc00::/7": "a private address",
    "fec0::/10": "a private address",
    "fe80::/10": "a link-local address",
    "64:ff9b:1::/48": "a private address",
}
_NEVER_V6 = {
    "::/128": "an unspecified address",
    "ff00::/8": "a multicast address",
    "2001::/23": "a reserved address",  # protocol assignments, Teredo tunnels among them
    "2001:db8::/32": "a documentation address",
    "2002::/16": "a 6to4 address",  # given up in 2015, rfc7526: nothing honest is there any more
    "3fff::/20": "a documentation address",
}
_METADATA = {
    "169.254.169.254",  # AWS, Azure, Google, Oracle and others
    "169.254.170.2",  # AWS containers
    "169.254.170.23",  # AWS EKS pod identity
    "168.63.129.16",  # Azure's platform address, reachable from its machines only
    "100.100.100.200",  # Alibaba
    "fd00:ec2::254",  # AWS
    "fd00:ec2::23",  # AWS EKS pod identity
    "fd20:ce::254",  # Google
}

# A table of our own rather than `is_private` and `is_global`, whose answers differ between Python's releases
# (https://github.com/python/cpython/issues/113171).
_V4 = [
    (IPv4Network(net), name, private)
    for table, private in ((_PRIVATE_V4, True), (_NEVER_V4, False))
    for net, name in table.items()
]
_V6 = [
    (IPv6Network(net), name, private)
    for table, private in ((_PRIVATE_V6, True), (_NEVER_V6, False))
    for net, name in table.items()
]
_METADATA_ADDRESSES = frozenset(ip_address(address) for address in _METADATA)
_GLOBAL_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")


def refusal(address: str, *, allow_private: bool = False) -> str | None:
    """Why nothing may be fetched from an IP address ("a loopback address"), or None.

    Args:
        address: as `getaddrinfo` gives it; IPv6 without brackets.
        allow_private: let private, loopback, link-local and carrier-grade NAT addresses pass. The addresses at which
            clouds hand out credentials, multicast, reserved and unspecified ones are refused all the same.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return "not an IP address"
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        found = IPv6Address(int(found))  # else 'fd00:ec2::254%eth0' would equal nothing
    if found in _METADATA_ADDRESSES:
        return "a cloud metadata address"
    if isinstance(found, IPv4Address):
        for network, name, private in _V4:
            if found in network:
                return None if private and allow_private else name
        return None
    inner = _wrapped(found)
    if inner is not None:
        why = refusal(str(inner), allow_private=allow_private)
        return f"{inner} in IPv6 form, {why}" if why else None
    for network6, name, private in _V6:
        if found in network6:
            return None if private and allow_private else name
    return None if found in _GLOBAL_V6 else "a reserved address"


def _wrapped(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64:  # https://datatracker.ietf.org/doc/html/rfc6052
        return low
    if address in _COMPATIBLE and int(address) > 1:  # ::a.b.c.d, given up long ago but still understood
        return low
    if int(address) >> 32 & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE):  # ISATAP, rfc5214
        return low
    return address.ipv4_mapped


@dataclass(frozen=True, slots=True)
class Place:
    """A URL that may be fetched as far as one can tell before DNS.

    Attributes:
        url: normalised: ASCII, IPv4 addresses in their usual form, no fragment.
        host: name or IP address, IPv6 without brackets.
        port: given, or the scheme's own.
        literal: True when `host` is an IP address, so that there is nothing to look up.
    """

    url: str
    host: str
    port: int
    literal: bool


_PORTS = {"http": 80, "https": 443}
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_NAME = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*\.?", re.IGNORECASE)
_DEVIATING = re.compile("[ßẞς\u200c\u200d]")
_KEEP = "%/:?#[]@!$&'()*+,;=~"
"""What is not percent-encoded in paths and queries: reserved characters mean something, `%` is encoded already."""


def place_of(url: str) -> Place:
    """Check a URL and bring it into one form.

    Raises:
        InputError: not http(s), credentials in it, no host, or a host or port that cannot be one. The message does
            not show the query string.
    """
    shown = redacted(url)
    url = url.strip()
    if _CONTROL.search(url):
        raise InputError(f"image URL {shown} has control characters or backslashes in it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text can hold the credentials
        raise InputError(f"image URL {shown} is not a URL: its host or port cannot be one") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise InputError(f"image URL {shown}: only http and https are fetched, not {scheme or 'a URL without scheme'}")
    if "@" in parts.netloc:
        raise InputError(f"image URL {shown} has credentials in it; fetch such an image yourself and pass the bytes")
    if port == 0:
        raise InputError(f"image URL {shown} has port 0")
    host, literal = _host(parts.hostname or "", shown, bracketed=parts.netloc.startswith("["))
    netloc = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS[scheme]:
        netloc = f"{netloc}:{port}"
    path, query = quote(parts.path, _KEEP, "utf-8", "replace"), quote(parts.query, _KEEP, "utf-8", "replace")
    normal = urlunsplit((scheme, netloc, path or "/", query, ""))
    return Place(normal, host, port or _PORTS[scheme], literal)


def redirected(place: Place, location: str) -> Place:
    """Where a redirect leads to, checked like any other URL."""
    if _CONTROL.search(location):  # before `urljoin`, which drops some of them
        raise InputError(f"image URL {redacted(place.url)} redirects to something that is not a URL")
    try:
        return place_of(urljoin(place.url, location.strip()))
    except ValueError as error:
        if isinstance(error, InputError):
            raise InputError(f"image URL {redacted(place.url)} redirects: {error}") from None
        raise InputError(f"image URL {redacted(place.url)} redirects to something that is not a URL") from None


def check_address(place: Place, address: str, *, allow_private: bool) -> None:
    """Whether `place` may be fetched from `address`, one of those its host has.

    Raises:
        InputError: it may not (see `refusal`).
    """
    why = refusal(address, allow_private=allow_private)
    if why is None:
        return
    where = f"{address} is" if place.literal else f"{place.host} is at {address},"
    remedy = "" if refusal(address, allow_private=True) else " ([images] allow_private is false)"
    raise InputError(f"image URL {redacted(place.url)} is not fetched: {where} {why}{remedy}")


def _host(host: str, shown: str, *, bracketed: bool) -> tuple[str, bool]:
    """The host in its usual form, and whether it is an IP address."""
    if not host:
        raise InputError(f"image URL {shown} names no host")
    if bracketed:
        try:
            if "%" in host:
                raise AddressValueError("zone")
            return str(IPv6Address(host)), True
        except AddressValueError:
            raise InputError(f"image URL {shown}: the host is not an IPv6 address") from None
    if not host.isascii():
        # The codec is IDNA 2003; these characters became others in it that IDNA 2008 keeps: another host.
        if _DEVIATING.search(host):
            raise InputError(f"image URL {shown}: write the host in its ASCII form (xn--...)")
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise InputError(f"image URL {shown}: the host is not a name") from None
    if not _NAME.fullmatch(host):
        raise InputError(f"image URL {shown}: the host is not a name")
    last = host.removesuffix(".").rpartition(".")[2]
    if last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last, re.IGNORECASE):
        try:
            return str(_number(host.removesuffix("."))), True
        except ValueError:
            raise InputError(f"image URL {shown}: the host is not an IPv4 address") from None
    return host.lower(), False


def _number(host: str) -> IPv4Address:
    """The IPv4 address that `http://2130706433/`, `http://0x7f.1/` or `http://0177.0.0.1/` mean.

    https://url.spec.whatwg.org/#concept-ipv4-parser
    """
    numbers = []
    for part in host.split("."):
        if not re.fullmatch("0x[0-9a-f]*|[0-9]+", part, re.IGNORECASE):  # `int` would take underscores and more
            raise ValueError(host)
        if part[:2].lower() == "0x":
            numbers.append(int(part[2:] or "0", 16))
        else:
            numbers.append(int(part, 8 if part[0] == "0" else 10))
    *upper, low = numbers
    if len(numbers) > 4 or any(number > 255 for number in upper) or low >= 256 ** (5 - len(numbers)):
        raise ValueError(host)
    return IPv4Address(low + sum(number << 8 * (3 - i) for i, number in enumerate(upper)))


def redacted(url: str) -> str:
    """A URL for messages: query string, fragment and credentials left out (they can hold keys and signatures)."""
    head, mark, rest = url.strip().partition("://")
    authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    text = f"{head}{mark}{authority.rpartition('@')[2]}{slash}{path}" if mark else re.split(r"[?#@]", head)[0]
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return text if len(text) <= 200 else text[:199] + "…"


def scrubbed(text: str, url: str) -> str:
    """A message that may repeat `url`, without its query string."""
    text = text.replace(url, redacted(url))
    query = url.partition("?")[2]
    return text.replace(query, "...") if query else text
