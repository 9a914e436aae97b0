"""Only public addresses pass, in any notation."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.image_url.addresses import SystemResolver, is_public

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001::200e"]
)
def test_accepts_public_addresses(address):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
        "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.9",
        "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255",
        "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::7f00:1", "::808:808", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:0:4136:e378::1",
        "2001:2::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1",
        "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1",
        "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1",
    ],
)  # fmt: skip
def test_rejects_all_other_addresses(address):
    assert not is_public(ip_address(address))


@given(st.integers(0, 2**32 - 1))
def test_rejects_every_embedded_ipv4_address(number):
    inside = int(IPv4Address(number))
    for prefix in ("::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::"):
        assert not is_public(IPv6Address(int(IPv6Address(prefix)) + inside))
    assert not is_public(IPv6Address((0x2002 << 112) + (inside << 80) + 1))
    assert not is_public(IPv6Address((0x20010000 << 96) + (inside ^ 0xFFFFFFFF)))


@given(st.integers(0, 2**128 - 1))
def test_check_never_raises(number):
    assert is_public(IPv6Address(number)) in (True, False)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0",
     "localhost", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1"],
)  # fmt: skip
async def test_rejects_every_notation_of_loopback(host):
    resolve = SystemResolver(1)
    addresses = await resolve(host, 443)
    resolve.close()
    assert not any(map(is_public, addresses))
    if host not in ("localhost", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1"):
        assert addresses == [IPv4Address(socket.inet_ntoa(socket.inet_aton(host)))]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 300, "a..b", "\udcff", "fe80::1%25eth0", " "])
async def test_unknown_name_has_no_addresses(host):
    resolve = SystemResolver(1)
    assert await resolve(host, 443) == []
    resolve.close()
