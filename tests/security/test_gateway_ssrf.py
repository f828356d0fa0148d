"""The checker led astray: addresses of the own network in every disguise, traps, bombs. Over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.kit.addresses import IPAddress, why_not
from app.kit.safe_http import Fetched, FetchLimits, SafeFetcher, UnsafeAddress, check_url

FORBIDDEN_ADDRESSES = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254
    169.254.0.1 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1
    198.51.100.7 203.0.113.7 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
    :: ::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 2001:db8::1 100::1 3fff::1 5f00::1
    ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:8.8.8.8 ::7f00:1 ::a9fe:a9fe
    64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::a00:1 2002:7f00:1:: 2002:a9fe:a9fe:: 2002:c0a8:1::1
    2001:0:0:0:0:0:80ff:fffe 2001:470::5efe:a00:1 2001:470::200:5efe:7f00:1 fe80::1%eth0 2606:4700::1%1
""".split()  # noqa: SIM905 - a table

PUBLIC_ADDRESSES = [
    "8.8.8.8",
    "1.1.1.1",
    "93.184.216.34",
    "2606:4700::1111",
    "2a00:1450:4001::200e",
    "64:ff9b::808:808",
]

FORBIDDEN_URLS = {
    "http://127.0.0.1/": "address",
    "http://127.1/": "address",
    "http://2130706433/": "address",
    "http://0x7f000001/": "address",
    "http://0x7f.0.0.1/": "address",
    "http://0177.0.0.1/": "address",
    "http://017700000001/": "address",
    "http://%31%32%37.0.0.1/": "address",
    "http://①②⑦.0.0.1/": "address",
    "http://127。0。0。1/": "address",
    "http://0/": "address",
    "http://0.0.0.0:80/": "address",
    "http://169.254.169.254/latest/meta-data/": "address",
    "http://2852039166/": "address",
    "http://[::1]/": "address",
    "http://[::]/": "address",
    "http://[::ffff:127.0.0.1]/": "address",
    "http://[::ffff:7f00:1]/": "address",
    "http://[0:0:0:0:0:ffff:a9fe:a9fe]/": "address",
    "http://[64:ff9b::127.0.0.1]/": "address",
    "http://[fd00:ec2::254]/": "address",
    "http://[fe80::1%25eth0]/": "unreadable",
    "http://localhost/": "name",
    "http://LOCALHOST./": "name",
    "http://a.localhost/": "name",
    "http://metadata/": "name",
    "http://metadata.google.internal/computeMetadata/v1/": "name",
    "http://instance-data.ec2.internal/": "name",
    "http://kubernetes.default.svc/": "name",
    "http://kubernetes.default.svc.cluster.local/": "name",
    "http://router.lan/": "name",
    "http://printer.local/": "name",
    "http://x.home.arpa/": "name",
    "http://1.0.0.127.in-addr.arpa/": "name",
    "http://x.onion/": "name",
    "http://user@public.example/": "credentials",
    "http://user:pw@public.example/": "credentials",
    "http://public.example@127.0.0.1/": "credentials",
    "http://:pw@public.example/": "credentials",
    "http://public.example:22/": "port",
    "http://public.example:6379/": "port",
    "http://public.example:25/": "port",
    "https://public.example:5432/": "port",
    "http://public.example:0/": "port",
    "ftp://public.example/": "scheme",
    "file:///etc/passwd": "scheme",
    "gopher://public.example/": "scheme",
    "dict://public.example/": "scheme",
    "javascript:alert(1)": "scheme",
    "data:text/html,x": "scheme",
    "ws://public.example/": "scheme",
    "//public.example/": "unreadable",
    "http://": "unreadable",
    "http://[": "unreadable",
    "http://a b/": "unreadable",
    "": "unreadable",
}


@pytest.mark.parametrize("text", FORBIDDEN_ADDRESSES)
def test_an_address_that_is_not_public_is_refused(text: str) -> None:
    assert why_not(ipaddress.ip_address(text)) is not None


@pytest.mark.parametrize("text", PUBLIC_ADDRESSES)
def test_a_public_address_is_not_refused(text: str) -> None:
    assert why_not(ipaddress.ip_address(text)) is None


@pytest.mark.parametrize(("url", "reason"), FORBIDDEN_URLS.items())
def test_an_address_that_leads_inside_is_not_fetched(url: str, reason: str) -> None:
    with pytest.raises(UnsafeAddress) as refused:
        check_url(url, FetchLimits())
    assert refused.value.reason == reason
    fetched = asyncio.run(SafeFetcher(resolver=_nobody).fetch(url))
    assert (fetched.problem, fetched.hops) == (reason, ())


async def _nobody(host: str, port: int) -> list[IPAddress]:
    raise AssertionError(f"{host} was looked up")


@dataclass
class Site:
    """A server of one's own on loopback that stands for the internet."""

    port: int = 0
    answers: dict[str, bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]] = field(default_factory=dict)
    asked: list[bytes] = field(default_factory=list)

    def url(self, path: str, host: str = "public.example") -> str:
        return f"http://{host}:{self.port}{path}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head)
            answer = self.answers.get(head.split(b" ")[1].decode(), b"HTTP/1.1 404 Not Found\r\n\r\n")
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def page(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def moved(target: str, status: int = 302) -> bytes:
    return page(b"", f"Location: {target}", status=f"{status} Moved")


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    found = Site()
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        await server.wait_closed()


async def loopback(host: str, port: int) -> list[IPAddress]:
    """Every public name is the test's own server."""
    return [ipaddress.ip_address("127.0.0.1")]


def fetcher(served: Site, **limits: object) -> SafeFetcher:
    values: dict[str, object] = {
        "ports": frozenset({80, served.port}),
        "allowed": (ipaddress.ip_network("127.0.0.1/32"),),
        "seconds": 10.0,
    }
    return SafeFetcher(FetchLimits(**{**values, **limits}), loopback)  # type: ignore[arg-type]  # values by field name


async def fetch(served: Site, path: str, **limits: object) -> Fetched:
    return await fetcher(served, **limits).fetch(served.url(path))


async def test_a_page_is_fetched_without_telling_anything_about_us() -> None:
    async with site() as served:
        served.answers["/a?b=c"] = page(b"hello", "Content-Type: text/html", "Set-Cookie: a=b")
        fetched = await fetch(served, "/a?b=c#fragment")
    assert (fetched.status, fetched.body, fetched.problem) == (200, b"hello", "")
    head = served.asked[0].lower()
    for word in (b"cookie", b"referer", b"authorization", b"fragment", b"python", b"httpcore"):
        assert word not in head
    assert b"host: public.example" in head


@pytest.mark.parametrize(
    ("addresses", "problem"),
    [
        (["10.0.0.1"], "address"),
        (["8.8.8.8", "10.0.0.1"], "address"),
        (["::ffff:127.0.0.1"], "address"),
        (["169.254.169.254"], "address"),
        ([], "address"),
    ],
)
async def test_a_name_with_any_address_of_the_own_network_is_not_fetched(addresses: list[str], problem: str) -> None:
    async def resolver(host: str, port: int) -> list[IPAddress]:
        return [ipaddress.ip_address(text) for text in addresses]

    fetched = await SafeFetcher(resolver=resolver).fetch("http://public.example/")
    assert (fetched.problem, fetched.hops) == (problem, ())


async def test_a_name_is_looked_up_once_so_that_a_second_answer_changes_nothing() -> None:
    answers = [[ipaddress.ip_address("127.0.0.1")], [ipaddress.ip_address("10.0.0.1")]]
    looked_up = []

    async def rebinding(host: str, port: int) -> list[IPAddress]:
        looked_up.append(host)
        return list(answers[len(looked_up) - 1])

    async with site() as served:
        served.answers["/"] = page(b"ok")
        limits = FetchLimits(ports=frozenset({served.port}), allowed=(ipaddress.ip_network("127.0.0.1/32"),))
        fetched = await SafeFetcher(limits, rebinding).fetch(served.url("/"))
    assert (fetched.body, looked_up) == (b"ok", ["public.example"])


async def test_redirects_are_followed_and_every_hop_is_kept() -> None:
    async with site() as served:
        served.answers |= {"/1": moved("/2", 301), "/2": moved("3?x#y", 307), "/3?x": page(b"end")}
        fetched = await fetch(served, "/1")
    assert [(hop.url.rpartition("/")[2], hop.status) for hop in fetched.hops] == [("1", 301), ("2", 307), ("3?x", 200)]
    assert fetched.body == b"end"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("http://169.254.169.254/latest/", "address"),
        ("http://[::1]/", "address"),
        ("http://2852039166/", "address"),
        ("http://localhost/", "name"),
        ("http://public.example:22/", "port"),
        ("file:///etc/passwd", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("//user@public.example/", "credentials"),
        ("http://[", "unreadable"),
    ],
)
async def test_a_redirect_does_not_lead_inside(target: str, problem: str) -> None:
    async with site() as served:
        served.answers["/"] = moved(target)
        fetched = await fetch(served, "/")
    assert fetched.problem == problem
    assert len(fetched.hops) == 1
    assert len(served.asked) == 1


async def test_redirects_end_after_five_hops_and_in_circles() -> None:
    async with site() as served:
        served.answers |= {f"/{number}": moved(f"/{number + 1}") for number in range(10)}
        served.answers |= {"/x": moved("/y"), "/y": moved("/x#again")}
        assert (await fetch(served, "/0")).problem == "hops"
        assert len(served.asked) == 6
        assert (await fetch(served, "/x")).problem == "loop"


async def test_the_caller_can_stop_before_a_hop() -> None:
    async with site() as served:
        served.answers |= {"/1": moved("/reset?token=x")}
        fetched = await fetcher(served).fetch(served.url("/1"), before_hop=lambda url: "token" not in url)
    assert fetched.problem == "stopped"
    assert len(served.asked) == 1


async def test_an_endless_body_is_cut_at_the_limit() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with site() as served:
        served.answers["/"] = endless
        fetched = await fetch(served, "/", body_bytes=100_000)
    assert (len(fetched.body), fetched.truncated, fetched.problem) == (100_000, True, "")


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [("gzip", gzip.compress(bytes(50 << 20), mtime=0)), ("deflate", zlib.compress(bytes(50 << 20)))],
    ids=["gzip", "deflate"],
)
async def test_a_decompression_bomb_is_cut_at_the_limit(encoding: str, bomb: bytes) -> None:
    async with site() as served:
        served.answers["/"] = page(bomb, f"Content-Encoding: {encoding}")
        fetched = await fetch(served, "/", body_bytes=100_000)
    assert (len(fetched.body), fetched.truncated) == (100_000, True)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (page(b"x", "Content-Encoding: br"), "encoding"),
        (page(b"x", "Content-Encoding: gzip, gzip"), "encoding"),
        (page(b"not gzip", "Content-Encoding: gzip"), "encoding"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 300_000 + b"\r\n\r\n", "protocol"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "protocol"),
        (b"HTTP/1.1 999999 Odd\r\n\r\n", "protocol"),
        (b"", "protocol"),
    ],
)
async def test_answers_that_are_none_are_named(answer: bytes, problem: str) -> None:
    async with site() as served:
        served.answers["/"] = answer
        assert (await fetch(served, "/")).problem == problem


async def test_a_slow_drip_runs_into_the_time_limit() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with site() as served:
        served.answers["/"] = drip
        assert (await fetch(served, "/", seconds=0.3)).problem == "timeout"


async def test_a_server_that_does_not_speak_tls_is_named() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(page(b"x", status="400 Bad Request"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    served = Site(server.sockets[0].getsockname()[1])
    fetched = await fetcher(served).fetch(served.url("/").replace("http:", "https:"))
    server.close()
    await server.wait_closed()
    assert (fetched.problem, fetched.hops) == ("tls", ())


async def test_a_certificate_of_nobody_is_not_believed(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "public.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("public.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    served = Site()
    server = await asyncio.start_server(served.handle, "127.0.0.1", 0, ssl=context)
    served.port = server.sockets[0].getsockname()[1]
    fetched = await fetcher(served).fetch(served.url("/").replace("http:", "https:"))
    server.close()
    await server.wait_closed()
    assert (fetched.problem, fetched.hops, served.asked) == ("tls", (), [])


async def test_a_closed_port_is_named() -> None:
    async with site() as served:
        pass
    assert (await fetch(served, "/")).problem == "connect"
