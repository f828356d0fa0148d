"""Sending mail by SMTP submission (RFC 6409, RFC 8314), TLS required unless switched off.

The connection is made in a thread with :mod:`smtplib`. What went wrong is told without any address of a person: a
server's own words often repeat the recipient, so only its code is kept.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Final, Literal

from pydantic import SecretStr

TIMEOUT_SECONDS: Final = 20.0

Tls = Literal["starttls", "tls", "none"]


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in.

    Attributes:
        host: Its name, which its certificate must bear.
        port: Usually 587 (``starttls``) or 465 (``tls``).
        sender: The envelope's and the header's From.
        tls: ``starttls`` and ``tls`` refuse to go on without; ``none`` is for a server on the same machine.
        user: Empty: no login.
        password: Of the user; never sent without TLS.
        ca_file: Certificates that are trusted in place of the system's; None: the system's.
    """

    host: str
    port: int
    sender: str
    tls: Tls = "starttls"
    user: str = ""
    password: SecretStr | None = None
    ca_file: Path | None = None

    async def send(self, messages: Sequence[tuple[str, EmailMessage]]) -> list[str]:
        """Hand messages in over one connection.

        Args:
            messages: Recipient and message.

        Returns:
            For each what went wrong, without any address: a code (``answered``, ``login``, ``no_connection``,
            ``no_tls``, ``recipient``, ``tls``) and its detail; empty: the server took it.
        """
        return await asyncio.to_thread(self._send, messages)

    def _send(self, messages: Sequence[tuple[str, EmailMessage]]) -> list[str]:
        done: list[str] = []
        try:
            with self._connected() as smtp:
                for recipient, message in messages:
                    done.append(self._hand_in(smtp, recipient, message))
            problem = ""
        except smtplib.SMTPNotSupportedError:
            problem = "no_tls"
        except smtplib.SMTPAuthenticationError as error:
            problem = f"login {error.smtp_code}"
        except smtplib.SMTPResponseException as error:
            problem = f"answered {error.smtp_code}"
        except ssl.SSLError as error:
            problem = f"tls {error.reason or type(error).__name__}"
        except (OSError, smtplib.SMTPException) as error:
            problem = f"no_connection {type(error).__name__}"
        # What the server took it has, whatever became of the connection after that: it is not sent again.
        return [*done, *[problem] * (len(messages) - len(done))]

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        if self.tls == "tls":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=TIMEOUT_SECONDS, context=context)
        else:
            smtp = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            if self.tls == "starttls":
                smtp.starttls(context=context)
            if self.user and self.password is not None:
                if self.tls == "none":
                    raise smtplib.SMTPNotSupportedError("no login without TLS")
                smtp.login(self.user, self.password.get_secret_value())
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _hand_in(self, smtp: smtplib.SMTP, recipient: str, message: EmailMessage) -> str:
        try:
            smtp.send_message(message, self.sender, [recipient])
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            return f"recipient {', '.join(map(str, codes))}"
        except smtplib.SMTPResponseException as error:
            return f"answered {error.smtp_code}"
        return ""
