"""Where a request goes: its URL taken apart, and the proxy on the way. For all engines of HTTP."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from ..errors import ConfigError

__all__ = ["Origin", "Url", "proxy_for", "shown"]

Origin = tuple[str, str, int | None]


class Url:
    """A URL taken apart once; the same few are asked for all the time."""

    __slots__ = ("host", "host_header", "origin", "place", "port", "secure", "target")

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ConfigError(f"{shown(url)!r} is not a URL: {error}", key="base_url") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ConfigError(f"{shown(url)!r} is not an http or https URL with a host; check base_url", key="base_url")
        try:
            ascii_host = host.encode("ascii")
        except UnicodeEncodeError:
            import idna

            try:
                ascii_host = idna.encode(host)
            except idna.IDNAError as error:
                raise ConfigError(f"{host!r} is not a host name: {error}", key="base_url") from None
        self.host = ascii_host.decode()
        self.secure = parts.scheme == "https"
        self.origin: Origin = (parts.scheme, self.host, port)
        self.target = _percent_encoded((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        name = b"[%s]" % ascii_host if b":" in ascii_host else ascii_host
        default = 443 if self.secure else 80
        self.port = port or default
        self.host_header = name if port in (None, default) else b"%s:%d" % (name, port)
        self.place = self.host_header.decode()


def _percent_encoded(target: str) -> bytes:
    """The request target; what is encoded already, and `@` and `/`, stay as they are."""
    from urllib.parse import quote

    return quote(target, safe="%/:?#[]@!$&'()*+,;=-._~").encode("ascii")


def shown(url: str) -> str:
    """A URL for messages: without a query, which may hold a key, and without a password."""
    return url.partition("?")[0].rpartition("@")[2]


def proxy_for(url: Url, proxy: str | None) -> str | None:
    """The proxy configured, else the one the environment names (HTTPS_PROXY, NO_PROXY and their kind)."""
    if proxy is not None:
        return proxy
    if os.name == "posix" and os.uname().sysname != "Darwin":
        # Elsewhere the system has a setting of its own; here it is the environment or nothing, and looking first
        # saves importing urllib.request.
        if not any(name.lower().endswith("_proxy") for name in os.environ):
            return None
    import urllib.request

    found = urllib.request.getproxies()
    value = found.get(url.origin[0]) or found.get("all")
    port = url.origin[2]
    if not value or urllib.request.proxy_bypass(f"{url.host}:{port}" if port else url.host):
        return None
    return value if "://" in value else f"http://{value}"
