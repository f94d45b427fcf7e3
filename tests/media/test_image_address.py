"""Which addresses and URLs may be fetched from."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaroute.errors import InputError
from llamaroute.media.address import check_address, place_of, redacted, redirected, refusal, scrubbed

PRIVATE = {
    "10.0.0.1": "a private address",
    "10.255.255.255": "a private address",
    "172.16.0.1": "a private address",
    "172.31.255.255": "a private address",
    "192.168.1.1": "a private address",
    "127.0.0.1": "a loopback address",
    "127.9.9.9": "a loopback address",
    "169.254.1.1": "a link-local address",
    "100.64.0.1": "a carrier-grade NAT address",
    "100.127.255.255": "a carrier-grade NAT address",
    "::1": "a loopback address",
    "fc00::1": "a private address",
    "fd12:3456::1": "a private address",
    "fec0::1": "a private address",
    "fe80::1": "a link-local address",
    "fe80::1%eth0": "a link-local address",
    "64:ff9b:1::5db8:d822": "a private address",
    "::ffff:10.0.0.1": "10.0.0.1 in IPv6 form, a private address",
    "::ffff:7f00:1": "127.0.0.1 in IPv6 form, a loopback address",
    "::127.0.0.1": "127.0.0.1 in IPv6 form, a loopback address",
    "64:ff9b::10.0.0.1": "10.0.0.1 in IPv6 form, a private address",
    "2a00::5efe:192.168.0.1": "192.168.0.1 in IPv6 form, a private address",
}
NEVER = {
    "0.0.0.0": "an unspecified address",
    "0.1.2.3": "an unspecified address",
    "::": "an unspecified address",
    "::ffff:0.0.0.0": "0.0.0.0 in IPv6 form, an unspecified address",
    "224.0.0.1": "a multicast address",
    "239.255.255.255": "a multicast address",
    "ff02::1": "a multicast address",
    "240.0.0.1": "a reserved address",
    "255.255.255.255": "a reserved address",
    "192.0.0.192": "a reserved address",
    "198.18.0.1": "a reserved address",
    "192.0.2.1": "a documentation address",
    "198.51.100.1": "a documentation address",
    "203.0.113.1": "a documentation address",
    "2001:db8::1": "a documentation address",
    "3fff::1": "a documentation address",
    "2001::1": "a reserved address",
    "100::1": "a reserved address",
    "4000::1": "a reserved address",
    "5f00::1": "a reserved address",
    "169.254.169.254": "a cloud metadata address",
    "::ffff:169.254.169.254": "169.254.169.254 in IPv6 form, a cloud metadata address",
    "64:ff9b::a9fe:a9fe": "169.254.169.254 in IPv6 form, a cloud metadata address",
    "2002:a9fe:a9fe::": "a 6to4 address",
    "2002:808:808::1": "a 6to4 address",
    "fd00:ec2::254": "a cloud metadata address",
    "fd00:ec2::254%1": "a cloud metadata address",
    "fd20:ce::254": "a cloud metadata address",
    "168.63.129.16": "a cloud metadata address",
    "100.100.100.200": "a cloud metadata address",
    "169.254.170.2": "a cloud metadata address",
    "localhost": "not an IP address",
    "": "not an IP address",
    "2130706433": "not an IP address",
}
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
    "192.167.255.255", "192.169.0.0", "223.255.255.255", "126.255.255.255", "128.0.0.0", "169.253.255.255",
    "2606:4700:4700::1111", "2a00:1450::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize(("address", "why"), [*PRIVATE.items(), *NEVER.items()])
def test_refused(address: str, why: str) -> None:
    assert refusal(address) == why


@pytest.mark.parametrize("address", PRIVATE)
def test_allow_private_lets_private_ones_pass(address: str) -> None:
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize(("address", "why"), NEVER.items())
def test_allow_private_lets_nothing_else_pass(address: str, why: str) -> None:
    assert refusal(address, allow_private=True) == why


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert refusal(address) is None


@given(st.ip_addresses())
def test_nothing_passes_that_python_holds_for_not_global(address: object) -> None:
    found = ip_address(str(address))
    if refusal(str(address)) is None:
        assert found.is_global
        assert not found.is_multicast


@given(st.ip_addresses(v=4))
def test_wrapped_addresses_are_judged_like_the_plain_ones(address: object) -> None:
    number = int(ip_address(str(address)))
    plain = refusal(str(address))
    for wrapped in (0xFFFF << 32 | number, 0x64FF9B << 96 | number):
        why = refusal(str(ip_address(wrapped.to_bytes(16, "big"))))
        assert (why is None) == (plain is None)


@pytest.mark.parametrize(
    ("url", "host", "port", "normal"),
    [
        ("http://a.example", "a.example", 80, "http://a.example/"),
        ("HTTPS://A.Example:443/x?y=1#z", "a.example", 443, "https://a.example/x?y=1"),
        ("http://a.example:8080?q", "a.example", 8080, "http://a.example:8080/?q"),
        ("http://a:/", "a", 80, "http://a/"),
        (" http://a.example/my cat.jpg ", "a.example", 80, "http://a.example/my%20cat.jpg"),
        ("http://bücher.example/ü?ä=€", "xn--bcher-kva.example", 80,
         "http://xn--bcher-kva.example/%C3%BC?%C3%A4=%E2%82%AC"),
        ("http://a.example/%20%zz/..//b", "a.example", 80, "http://a.example/%20%zz/..//b"),
        ("http://my_bucket.example/", "my_bucket.example", 80, "http://my_bucket.example/"),
        ("http://1e100.net/", "1e100.net", 80, "http://1e100.net/"),
    ],
)  # fmt: skip
def test_places(url: str, host: str, port: int, normal: str) -> None:
    place = place_of(url)
    assert (place.host, place.port, place.url, place.literal) == (host, port, normal, False)
    assert place_of(place.url) == place


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://2130706433/", "127.0.0.1"),
        ("http://0x7f000001/", "127.0.0.1"),
        ("http://017700000001/", "127.0.0.1"),
        ("http://0x7f.1/", "127.0.0.1"),
        ("http://0177.0.0.01/", "127.0.0.1"),
        ("http://127.1/", "127.0.0.1"),
        ("http://127.0.0.1./", "127.0.0.1"),
        ("http://0/", "0.0.0.0"),
        ("http://0x/", "0.0.0.0"),
        ("http://0xA9FEA9FE/latest/meta-data", "169.254.169.254"),
        ("http://10.256/", "10.0.1.0"),
        ("http://１２７.0.0.1/", "127.0.0.1"),  # noqa: RUF001
        ("http://127。0。0。1/", "127.0.0.1"),
        ("http://8.8.8.8/", "8.8.8.8"),
        ("http://[::1]/", "::1"),
        ("http://[0:0::0001]/", "::1"),
        ("http://[::ffff:127.0.0.1]/", "::ffff:7f00:1"),
        ("http://[2606:4700::1]/", "2606:4700::1"),
    ],
)
def test_numeric_hosts_mean_an_address(url: str, address: str) -> None:
    place = place_of(url)
    assert place.literal
    assert ip_address(place.host) == ip_address(address)
    assert place_of(place.url) == place


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://a/", "only http and https are fetched, not ftp"),
        ("file:///etc/passwd", "not file"),
        ("//a/b", "URL without scheme"),
        ("https://user:secret@a/x", "has credentials in it"),
        ("https://secret@a/x", "has credentials in it"),
        ("https://@a/x", "has credentials in it"),
        ("http://", "names no host"),
        ("http:///x", "names no host"),
        ("http://:80/", "names no host"),
        ("http://a:0/", "port 0"),
        ("http://a:65536/", "host or port cannot be one"),
        ("http://a:x/", "host or port cannot be one"),
        ("http://[::1/", "host or port cannot be one"),
        ("http://[v1.x]/", "cannot be one|not an IPv6 address"),
        ("http://[fe80::1%25eth0]/", "not an IPv6 address"),
        ("http://[127.0.0.1]/", "cannot be one|not an IPv6 address"),
        ("http://a..b/", "not a name"),
        ("http://-a/", "not a name"),
        ("http://a b/", "not a name"),
        ("http://a%2eb/", "not a name"),
        ("http://a;b/", "not a name"),
        ("http://" + "a" * 64 + "/", "not a name"),
        ("http://faß.de/", "xn--"),
        ("http://256.1.1.1/", "not an IPv4 address"),
        ("http://1.2.3.4.5/", "not an IPv4 address"),
        ("http://1.2.3.256/", "not an IPv4 address"),
        ("http://4294967296/", "not an IPv4 address"),
        ("http://09/", "not an IPv4 address"),
        ("http://1_0.0.0.1/", "not an IPv4 address"),
        ("http://a.example.1/", "not an IPv4 address"),
        ("http://a/\nx", "control characters"),
        ("http://a\t.b/", "control characters"),
        ("http://good.example\\@evil.example/", "backslashes"),
        ("http://a\u2100b.com/", "cannot be one"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        place_of(url)
    assert "secret" not in str(caught.value)


@given(st.text() | st.text("0123456789.xX[]:@%/?#\\ abc").map("http://".__add__))
def test_any_text(url: str) -> None:
    try:
        place = place_of(url)
    except InputError:
        return
    assert place.url.isascii()
    assert place.url.startswith(("http://", "https://"))
    assert place_of(place.url) == place
    if place.literal:
        ip_address(place.host)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/b?c=1", "https://a.example/b?c=1"),
        ("b", "https://a.example/x/b"),
        ("?q", "https://a.example/x/y?q"),
        ("//b.example", "https://b.example/"),
        ("http://127.1/", "http://127.0.0.1/"),
        ("https://b.example/#f", "https://b.example/"),
    ],
)
def test_redirects(location: str, url: str) -> None:
    assert redirected(place_of("https://a.example/x/y?secret"), location).url == url


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "gopher://a/", "javascript:alert(1)", "data:image/png;base64,AAAA", "http://[", "https://u:p@b/",
     "ht\ntp://a/", "http://a:b/"],
)  # fmt: skip
def test_bad_redirects(location: str) -> None:
    with pytest.raises(InputError, match=r"image URL https://a\.example/x redirects") as caught:
        redirected(place_of("https://a.example/x?secret"), location)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@a.example:8/x/y?sig=1#f", "https://a.example:8/x/y"),
        ("https://a@b@c/x?y@z", "https://c/x"),
        ("https://a?sig=1", "https://a"),
        ("https://a#?sig", "https://a"),
        ("a/b?sig=1", "a/b"),
        ("https://a/\x1b[31m\n", "https://a/\ufffd[31m"),
        ("https://a/" + "x" * 500, "https://a/" + "x" * 189 + "…"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_scrubbed() -> None:
    assert scrubbed("GET https://a/x?k=1 broke; k=1", "https://a/x?k=1") == "GET https://a/x broke; ..."
    assert scrubbed("broke", "https://a/x") == "broke"


def test_check_address_says_where_and_what_to_do() -> None:
    place = place_of("https://a.example/x?secret")
    check_address(place, "8.8.8.8", allow_private=False)
    check_address(place, "10.0.0.1", allow_private=True)
    with pytest.raises(
        InputError,
        match=r"^image URL https://a\.example/x is not fetched: a\.example is at 10\.0\.0\.1, a private address "
        r"\(\[images\] allow_private is false\)$",
    ):
        check_address(place, "10.0.0.1", allow_private=False)
    with pytest.raises(InputError, match=r"169\.254\.169\.254 is a cloud metadata address$"):
        check_address(place_of("http://169.254.169.254/"), "169.254.169.254", allow_private=True)
