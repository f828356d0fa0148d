"""A mail server for tests: as much of SMTP (RFC 5321), STARTTLS (RFC 3207) and AUTH PLAIN (RFC 4954) as a client of
ours uses. It keeps what it was given."""

from __future__ import annotations

import asyncio
import base64
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from pathlib import Path

from tests.integration.protection.certificates import make_certificate

HOST = "localhost"


@dataclass
class Submission:
    """A running server.

    Attributes:
        port: Where it listens.
        certificate: The file with its certificate.
        offers_tls: Whether it offers STARTTLS.
        answers: Recipient -> what it is answered in place of 250.
        got: Recipient, message, and whether it came over TLS.
        logins: User and password of those who logged in.
    """

    port: int
    certificate: Path
    offers_tls: bool = True
    answers: dict[str, str] = field(default_factory=dict)
    got: list[tuple[str, EmailMessage, bool]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        """One connection."""

        async def say(*lines: str) -> None:
            for at, line in enumerate(lines):
                writer.write(f"{line[:3]}{' ' if at == len(lines) - 1 else '-'}{line[4:]}\r\n".encode())
            await writer.drain()

        secure = writer.get_extra_info("ssl_object") is not None
        recipients: list[str] = []
        await say("220 ready")
        while line := (await reader.readline()).decode():
            verb, _, rest = line.strip().partition(" ")
            match verb.upper():
                case "EHLO":
                    more = [] if secure or not self.offers_tls else ["250 STARTTLS"]
                    await say("250 here", *more, *(["250 AUTH PLAIN"] if secure else []))
                case "STARTTLS":
                    await say("220 go")
                    await writer.start_tls(context)
                    secure = True
                case "AUTH":
                    _, user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")
                    self.logins.append((user, password))
                    await say("235 welcome" if password == "right" else "535 no")
                case "MAIL" | "RSET":
                    recipients = []
                    await say("250 fine")
                case "RCPT":
                    recipient = rest.partition("<")[2].partition(">")[0]
                    recipients.append(recipient)
                    await say(self.answers.get(recipient, "250 fine"))
                case "DATA":
                    await say("354 go on")
                    text = await reader.readuntil(b"\r\n.\r\n")
                    message = email.message_from_bytes(text[:-5].replace(b"\r\n..", b"\r\n."), policy=policy.default)
                    assert isinstance(message, EmailMessage)
                    self.got += [(recipient, message, secure) for recipient in recipients]
                    await say("250 taken")
                case "QUIT":
                    await say("221 bye")
                    break
                case _:
                    await say("500 what")
        writer.close()


@asynccontextmanager
async def submission(folder: Path, *, tls: bool = False) -> AsyncIterator[Submission]:
    """A server on a free port of loopback.

    Args:
        folder: For its certificate.
        tls: TLS from the first byte on.
    """
    certificate = make_certificate(folder, HOST)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    made = Submission(0, certificate)
    serving: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await made.serve(reader, writer, context)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            return  # the client would not go on: that is what some of the tests are about
        finally:
            writer.close()
            serving.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context if tls else None)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
