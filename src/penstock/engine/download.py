"""One file over HTTP: no address inside a network that was not allowed, no other scheme, bytes counted."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ipaddress
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from typing import IO, Any
from urllib.parse import urlsplit

from penstock.errors import SourceNotFoundError

TIMEOUT_S = 30.0
"""A connection that is silent for so long is given up."""
REDIRECTS = 5


class RefusedAddressError(OSError):
    """An address that a declaration may not reach."""


def check_address(host: str, address: str, allowed: Collection[str]) -> None:
    """Refuse an address that is not on the public network, unless its host was allowed.

    Parameters
    ----------
    host : str
        As the URL names it.
    address : str
        That it stands for.
    allowed : collection of str
        Hosts and addresses of the configuration's `hosts`.

    Raises
    ------
    RefusedAddressError

    Examples
    --------
    >>> check_address("example.org", "93.184.216.34", ())
    >>> check_address("metadata", "169.254.169.254", ("metadata",))
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if host.lower() in allowed or str(ip) in allowed:
        return
    if not ip.is_global or ip.is_multicast:
        raise RefusedAddressError(f"{host} stands for {ip}, an address inside a network")


def opener(allowed: Collection[str]) -> urllib.request.OpenerDirector:
    """What opens http:// and https:// and nothing else.

    The address is judged once the connection stands, so that a name cannot stand for another one in between.
    """

    def connect(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        made = socket.create_connection(address, *args, **kwargs)
        try:
            check_address(address[0], made.getpeername()[0], [*allowed, *_proxies()])
        except BaseException:
            made.close()
            raise
        return made

    def over(kind: type[http.client.HTTPConnection]) -> Callable[..., http.client.HTTPConnection]:
        def new(*args: Any, **kwargs: Any) -> http.client.HTTPConnection:
            made = kind(*args, **kwargs)
            made._create_connection = connect  # type: ignore[attr-defined]  # noqa: SLF001  where the standard library lets a caller say how to connect
            return made

        return new

    class _Plain(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(over(http.client.HTTPConnection), request)

    class _Secure(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(over(http.client.HTTPSConnection), request)

    made = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Plain(),
        _Secure(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        made.add_handler(handler)
    return made


def _proxies() -> list[str]:
    """Hosts of the proxies that the environment names: whoever set them lets them be reached."""
    return [(urlsplit(url).hostname or "").lower() for url in urllib.request.getproxies().values()]


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            fp.close()
            raise RefusedAddressError(f"sent on from {before}:// to {after}://")
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and req.get_method() == "HEAD":
            made.method = "HEAD"
        return made


def head(url: str, allowed: Collection[str]) -> tuple[int, str, float] | None:
    """(size, strong entity tag or "", Unix time of the last change or 0) of a URL; None where it does not tell."""
    try:
        with opener(allowed).open(_request(url, "HEAD", allowed), timeout=TIMEOUT_S) as answer:
            return _told(answer.headers)
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except (OSError, http.client.HTTPException):
        return None


def _request(url: str, method: str, allowed: Collection[str]) -> urllib.request.Request:
    """A request, its address judged where it is written as numbers: a proxy would not do it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RefusedAddressError(f"{parts.hostname or parts.scheme} is no host over HTTP")
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(parts.hostname)
        check_address(parts.hostname, parts.hostname, allowed)
    return urllib.request.Request(url, method=method, headers=_HEADERS)  # noqa: S310  the scheme was looked at


_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "penstock"}


def _told(headers: Any) -> tuple[int, str, float] | None:
    size, tag = headers.get("Content-Length", ""), headers.get("ETag", "")
    changed = email.utils.parsedate_to_datetime(headers["Last-Modified"]).timestamp() if _dated(headers) else 0.0
    if not size.isdigit() or not (tag or changed):
        return None
    return int(size), "" if tag.startswith("W/") else tag, changed


def _dated(headers: Any) -> bool:
    try:
        email.utils.parsedate_to_datetime(headers.get("Last-Modified", ""))
    except (TypeError, ValueError):
        return False
    return True


def open_url(url: str, allowed: Collection[str]) -> tuple[Any, int | None]:
    """A stream of a URL's bytes, and how many are announced.

    Raises
    ------
    OSError, SourceNotFoundError
    """
    try:
        answer = opener(allowed).open(_request(url, "GET", allowed), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (404, 410):
                raise FileNotFoundError(2, f"the server answers {error.code}", url) from None
            raise SourceNotFoundError(f"the server answers {error.code} {error.reason}", where=url) from None
    length = answer.headers.get("Content-Length", "")
    return answer, int(length) if length.isdigit() else None
