"""Which callback addresses are taken, and which IP addresses are called."""

from ipaddress import ip_address

import pytest

from gateway.rules.reach import PORTS, Place, Reach, allowed, fault, networks, place, ports

OPEN = Reach()
LOCAL = Reach(local=True)

TAKEN = [
    "https://hooks.shop.example/assent",
    "https://hooks.shop.example",
    "https://hooks.shop.example?token=a%20b",
    "https://HOOKS.shop.example:8443/x?y=1&z=@",
    "https://shop.example:443/a/../b",
    "https://shop.example./a",
    "https://xn--fiqs8s.example/a",
    "https://8.8.8.8/a",
    "https://[2606:4700::1111]/a",
    "https://receiver/a",
    "https://a_b.example/a",
]
NO_FORM = [
    "",
    "shop.example/a",
    "ftp://shop.example/a",
    "file:///etc/passwd",
    "gopher://shop.example/",
    "https:///a",
    "https://",
    "https:shop.example",
    "https://user:pass@shop.example/a",
    "https://user@shop.example/a",
    "https://shop.example@127.0.0.1/a",
    "https://127.0.0.1#@shop.example/a",
    "https://shop.example/a#fragment",
    "https://shop.example\\@127.0.0.1/",
    "https://shop.example/a b",
    "https://shop.example/a\r\nHost: other",
    "https://shop.example/\tx",
    "https://shop.example/\x00",
    "https://商店.example/a",
    "https://shop.example/路",
    "https://shop.example:0/a",
    "https://shop.example:65536/a",
    "https://shop.example:99999999/a",
    "https://shop.example:/a",
    "https://shop..example/a",
    "https://.shop.example/a",
    "https://-/a",
    "https://" + "a" * 64 + ".example/",
    "https://%31%32%37.0.0.1/",
    "https://[::1/",
    "https://[::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[::ffff:127.0.0.1.9]/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://017700000001/",
    "https://127.1/",
    "https://0/",
    "https://0x7f.0.0.1/",
    "https://127.0.0.01/",
    "https://1.2.3.4.5/",
    "https://256.0.0.1/",
    "https://a.0x1/",
    "https://①②⑦.0.0.1/",
]
CLOSED = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255",
    "100.100.100.200", "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1",
    "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::2", "::127.0.0.1", "::10.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
    "64:ff9b:1::808:808", "100::1", "2001::1", "2001:0:808:808::1", "2001:db8::1", "2001:10::1", "2002:7f00:1::1",
    "2002:a00:1::", "2002:808:808::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd12::1",
    "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "4000::1",
]  # fmt: skip
CALLED = [
    "8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "169.253.1.1", "198.17.1.1",
    "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888", "2400:3200::1", "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]  # fmt: skip


@pytest.mark.parametrize("url", TAKEN)
def test_an_address_of_the_open_network_is_taken(url: str) -> None:
    assert fault(url, OPEN) is None


@pytest.mark.parametrize("url", NO_FORM)
def test_what_is_written_in_no_clear_form_is_refused_everywhere(url: str) -> None:
    assert place(url) is None
    assert "not an address we call" in str(fault(url, OPEN))
    assert fault(url, LOCAL) is not None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://shop.example/a", "https"),
        ("https://shop.example:8080/a", "port must be one of 443, 8443"),
        ("https://shop.example:22/a", "port"),
        ("https://localhost/a", "network"),
        ("https://x.localhost/a", "network"),
        ("https://127.0.0.1/a", "network"),
        ("https://[::1]/a", "network"),
        ("https://[::ffff:7f00:1]/a", "network"),
        ("https://10.1.2.3/a", "network"),
        ("https://169.254.169.254/latest/meta-data/", "network"),
    ],
)
def test_the_reason_says_what_is_wrong_and_quotes_nothing(url: str, why: str) -> None:
    said = fault(url, OPEN)
    assert said is not None
    assert why in said
    assert "shop.example" not in said


@pytest.mark.parametrize("address", CLOSED)
def test_no_special_address_is_called(address: str) -> None:
    assert not allowed(ip_address(address), OPEN)


@pytest.mark.parametrize("address", CALLED)
def test_an_open_address_is_called(address: str) -> None:
    assert allowed(ip_address(address), OPEN)


def test_an_operator_opens_networks_and_ports_and_nothing_opens_metadata() -> None:
    reach = Reach(networks("10.20.0.0/16, fd12::/16,169.254.0.0/16,0.0.0.0/0,::/0"), PORTS | ports("9443,10443"))
    for address in ("10.20.1.1", "fd12::1", "192.168.1.1", "::ffff:10.20.0.1", "2002:a14:1::1", "127.0.0.1"):
        assert allowed(ip_address(address), reach), address
    for address in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254", "::ffff:169.254.169.254", "224.0.0.1", "::"):
        assert not allowed(ip_address(address), reach), address
    assert fault("https://10.20.1.1:9443/", reach) is None
    narrow = Reach(networks("10.20.0.0/16"))
    assert not allowed(ip_address("10.21.0.1"), narrow)
    assert fault("http://10.20.1.1/", narrow) == "must be https"


def test_the_local_profile_calls_loopback_by_http_and_nothing_else_so() -> None:
    for url in ("http://127.0.0.1:9999/a", "http://localhost:1/", "http://[::1]:9/", "https://127.0.0.1:5/"):
        assert fault(url, LOCAL) is None
    for url in ("http://shop.example/", "http://10.0.0.1/", "https://10.0.0.1/", "https://shop.example:9999/"):
        assert fault(url, LOCAL) is not None
    assert allowed(ip_address("127.0.0.1"), LOCAL)
    assert allowed(ip_address("::1"), LOCAL)
    assert not allowed(ip_address("10.0.0.1"), LOCAL)
    assert not allowed(ip_address("169.254.169.254"), LOCAL)


def test_an_address_is_taken_apart_as_it_is_called() -> None:
    assert place("https://Shop.Example.:8443?a=1") == Place("https", "shop.example", 8443, "/?a=1")
    found = place("https://[2606:4700::1111]/x")
    assert found is not None
    assert (found.host, found.authority(), found.origin()) == (
        "2606:4700::1111", "[2606:4700::1111]", "https://[2606:4700::1111]"
    )  # fmt: skip
    assert place("https://shop.example:443/") == place("https://shop.example/")


@pytest.mark.parametrize("written", ["x", "0", "65536", "-1"])
def test_a_port_is_a_port(written: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them
        ports(written)
