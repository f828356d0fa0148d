"""A name server on loopback that speaks DNS over UDP and TCP (RFC 1035), for tests of DNS lists."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

SOA = "ns.test. hostmaster.test. 1 3600 600 86400 {minimum}"


@dataclass
class Zone:
    """What the server answers.

    Attributes:
        port: Its port, UDP and TCP.
        records: Name without the final dot -> A records.
        ttl: Of records.
        negative_ttl: Minimum of the SOA record that comes with "no such name".
        silent: Nothing is answered.
        servfail: Every question is answered with a failure.
        truncated: Names whose answer over UDP is cut off, so that it is asked for over TCP.
        no_data: Names that exist without an A record.
        asked: Every question, in order.
        over_tcp: Those that came over TCP.
        was_asked: Set with the first question.
    """

    port: int = 0
    records: dict[str, list[str]] = field(default_factory=dict)
    ttl: int = 180
    negative_ttl: int = 120
    silent: bool = False
    servfail: bool = False
    truncated: set[str] = field(default_factory=set)
    no_data: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    over_tcp: list[str] = field(default_factory=list)
    was_asked: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answer(self, wire: bytes, tcp: bool) -> bytes | None:
        question = dns.message.from_wire(wire)
        name = question.question[0].name.to_text().rstrip(".").lower()
        self.asked.append(name)
        self.was_asked.set()
        if tcp:
            self.over_tcp.append(name)
        if self.silent:
            return None
        reply = dns.message.make_response(question, recursion_available=True)
        if self.servfail:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif name in self.truncated and not tcp:
            reply.flags |= dns.flags.TC
        elif name in self.records:
            reply.answer.append(dns.rrset.from_text(f"{name}.", self.ttl, "IN", "A", *self.records[name]))
        else:
            if name not in self.no_data:
                reply.set_rcode(dns.rcode.NXDOMAIN)
            soa = SOA.format(minimum=self.negative_ttl)
            reply.authority.append(dns.rrset.from_text("test.", 900, "IN", "SOA", soa))
        return reply.to_wire()


def _one_port() -> tuple[socket.socket, socket.socket]:
    """Sockets of both protocols on one port that is free in both: one that is free in UDP may be taken in TCP."""
    for _ in range(100):
        tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp.bind(("127.0.0.1", 0))
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            continue
        return udp, tcp
    raise OSError("no port of loopback is free in both protocols")


@contextmanager
def serve_dns() -> Iterator[Zone]:
    """Serve on a free port of loopback in threads of its own."""
    zone = Zone()
    stopping = threading.Event()
    udp, tcp = _one_port()
    zone.port = udp.getsockname()[1]
    tcp.listen()
    for listener in (udp, tcp):
        listener.settimeout(0.05)

    def serve_udp() -> None:
        while not stopping.is_set():
            try:
                wire, client = udp.recvfrom(4096)
            except TimeoutError:
                continue
            reply = zone.answer(wire, tcp=False)
            if reply is not None:
                udp.sendto(reply, client)

    def serve_tcp() -> None:
        while not stopping.is_set():
            try:
                connection, _ = tcp.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(30)
                (length,) = struct.unpack("!H", connection.recv(2))
                reply = zone.answer(connection.recv(length), tcp=True)
                if reply is not None:
                    connection.sendall(struct.pack("!H", len(reply)) + reply)

    threads = [threading.Thread(target=target) for target in (serve_udp, serve_tcp)]
    for thread in threads:
        thread.start()
    try:
        yield zone
    finally:
        stopping.set()
        for thread in threads:
            thread.join(10)
        udp.close()
        tcp.close()
