"""Letters between people: colleagues, partners, lists, meetings, forwarded and signed mail."""

from __future__ import annotations

import email
import email.policy
from datetime import timedelta
from functools import cache

import cv2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from connectors.emulators.demo.writing import Scene, both, link, octets, only_html, only_text, page, start


def lunch(scene: Scene) -> bytes:
    """No link at all."""
    domain = scene.to.address.rpartition("@")[2]
    message = start(scene, "Team Kitchen", f"kitchen@{domain}", "Lunch on Thursday")
    return octets(only_text(message, f"Hi {scene.first_name},\n\nsoup or curry? Answer me by noon.\n", cte="7bit"))


def dienstplan(scene: Scene) -> bytes:
    """German plain text, 8bit, with a link into the intranet."""
    message = start(scene, "Peter Vogt", "peter.vogt@nordwind.example", "Dienstplan nächste Woche")
    text = (
        f"Hallo {scene.first_name},\n\nder Plan für nächste Woche steht: "
        f"{scene.url('intranet.nordwind', '/dienstplan')}.\n"
        "Bitte bis Freitag prüfen (auch die Fähre nach Föhr!).\n\nGruß\nPeter\n"
    )
    return octets(only_text(message, text))


def partner(scene: Scene) -> bytes:
    """Plain text, format=flowed (RFC 3676), addresses in brackets and before punctuation."""
    message = start(scene, "Lena Brandt", "lena.brandt@hafenwerk.example", "Re: Tour plan and the new ramp")
    only_text(
        message,
        f"Hi {scene.first_name},\n\nthe drawings are here ({scene.url('docs.papierboot', '/ramp')}), the plan too: \n"
        f"{scene.url('docs.papierboot', '/tour?week=48&view=all')}. Could you look at page 3, \nplease? "
        f"Also see <{scene.url('docs.papierboot', '/photos')}>!\n\n-- \nLena Brandt, Hafenwerk\n",
        cte="7bit",
    )
    message.set_param("format", "flowed")
    return octets(message)


def recruiting(scene: Scene) -> bytes:
    """Japanese plain text, UTF-8 in base64, without spaces around the address."""
    message = start(scene, "採用担当 佐々木", "sasaki@minato-works.example", "面談日程のご相談")
    text = (
        f"{scene.to.name} 様\n\nお世話になっております。面談の候補日は"
        f"{scene.url('meet.rundtisch', '/poll/88')}からお選びください。\n\nよろしくお願いいたします。\n"
    )
    return octets(only_text(message, text, cte="base64"))


def list_mail(scene: Scene) -> bytes:
    """A mailing list (RFC 2369, RFC 2919) with a footer."""
    message = start(scene, "Ole Hansen", "ole@fjordtech.example", "[harbour-forum] Which crane software?")
    message["List-Id"] = "Harbour Forum <harbour-forum.lists.example>"
    message["List-Unsubscribe"] = f"<{scene.url('lists.harbour-forum', '/leave')}>, <mailto:leave@lists.example>"
    message["List-Archive"] = f"<{scene.url('lists.harbour-forum', '/archive')}>"
    message["Precedence"] = "list"
    text = (
        "Hello all,\n\nhas anybody compared the three packages? My notes: "
        f"{scene.url('docs.papierboot', '/cranes')}\n\nOle\n_______________________________________________\n"
        f"Harbour-forum mailing list\n{scene.url('lists.harbour-forum', '/settings')}\n"
    )
    return octets(only_text(message, text, cte="quoted-printable"))


def invitation(scene: Scene) -> bytes:
    """A meeting request (RFC 5546, RFC 6047): must come out byte for byte as it was."""
    message = start(scene, "Jonas Reuter", "jonas.reuter@nordwind.example", "Meeting: winter schedule")
    begin = scene.now + timedelta(days=2)
    room = scene.url("meet.rundtisch", f"/{scene.token(10)}")
    calendar = "\r\n".join(
        [
            "BEGIN:VCALENDAR",
            "VERSION:2.0",
            "PRODID:-//Nordwind//Demo//EN",
            "METHOD:REQUEST",
            "BEGIN:VEVENT",
            f"UID:{scene.number}@nordwind.example",
            f"DTSTAMP:{scene.now:%Y%m%dT%H%M%SZ}",
            f"DTSTART:{begin:%Y%m%dT%H%M%SZ}",
            f"DTEND:{begin + timedelta(hours=1):%Y%m%dT%H%M%SZ}",
            "SUMMARY:Winter schedule",
            f"LOCATION:{room}",
            "ORGANIZER;CN=Jonas Reuter:mailto:jonas.reuter@nordwind.example",
            f"ATTENDEE;RSVP=TRUE:mailto:{scene.to.address}",
            "END:VEVENT",
            "END:VCALENDAR",
            "",
        ]
    )
    both(message, f"Join: {room}\n", page(f"Join: {link(room)}"))
    message.add_alternative(calendar, subtype="calendar", params={"method": "REQUEST"}, cte="base64")
    return octets(message)


@cache
def _signer() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """A throwaway certificate, made anew in every process."""
    from datetime import UTC, datetime

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Kanzlei Moorwerder (demonstration)")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name("notar@moorwerder.example")]), False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def signed(scene: Scene) -> bytes:
    """S/MIME, really signed (RFC 8551): any changed byte breaks the signature."""
    outer = start(scene, "Kanzlei Moorwerder", "notar@moorwerder.example", "Vertragsentwurf, signiert")
    inner = email.message.EmailMessage(policy=email.policy.SMTP)
    only_text(
        inner,
        f"Guten Tag {scene.to.name},\n\nder Entwurf liegt bereit: "
        f"{scene.url('docs.papierboot', '/vertrag')}\n\nDas Notariat\n",
        cte="quoted-printable",
    )
    key, certificate = _signer()
    made = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(inner.as_bytes())
        .add_signer(certificate, key, hashes.SHA256())
        .sign(serialization.Encoding.SMIME, [pkcs7.PKCS7Options.DetachedSignature])
    )
    # The signed entity has its own MIME-Version and Content-Type; the letter's headers go in front.
    return outer.as_bytes().rstrip(b"\r\n") + b"\r\n" + made.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def encrypted(scene: Scene) -> bytes:
    """PGP/MIME (RFC 3156)."""
    message = start(scene, "Ole Hansen", "ole@fjordtech.example", "...")
    text = octets(message).rstrip(b"\r\n")
    return text + (
        b"\r\nMIME-Version: 1.0\r\nContent-Type: multipart/encrypted;"
        b' protocol="application/pgp-encrypted"; boundary="pgp"'
        b"\r\n\r\n--pgp\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--pgp\r\n"
        b"Content-Type: application/octet-stream; name=encrypted.asc\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\n"
        b"hQEMAwAAAAAAAAAAAQf/demonstration\r\n-----END PGP MESSAGE-----\r\n\r\n--pgp--\r\n"
    )


def forwarded(scene: Scene) -> bytes:
    """Forwarded inside the text and attached as message/rfc822."""
    message = start(scene, "Sofia Marek", "sofia.marek@nordwind.example", "Fwd: Rates from Parcelwind")
    original = start(scene, "Parcelwind Sales", "sales@parcelwind.example", "Rates from Parcelwind")
    address = scene.url("track.parcelwind", "/rates?year=2027")
    only_html(original, page(f"Our rates: {link(address, 'price list')}"))
    html = page(
        "What do you think?",
        f"<blockquote>From: Parcelwind Sales<br>Our rates: {link(address, 'price list')}</blockquote>",
    )
    both(message, f"What do you think?\n\n> Our rates: {address}\n", html)
    message.add_attachment(original)
    return octets(message)


def inline_image(scene: Scene) -> bytes:
    """A linked inline image (RFC 2387, RFC 2392)."""
    message = start(scene, "Alpenkraft Bergsport", "angebote@alpenkraft.example", "Your trail map")
    target = scene.url("shop.alpenkraft", "/map")
    image = f'<a href="{target}"><img src="cid:map@alpenkraft.example" width="120" height="120" alt="Map"></a>'
    message.set_content(f"Map: {target}\n")
    message.add_alternative(page("Your map:", f"<p>{image}</p>"), subtype="html")
    html_part = message.get_body(("html",))
    if html_part is None:
        raise RuntimeError("the letter lost its HTML part")
    html_part.add_related(
        _qr_png(target),
        maintype="image",
        subtype="png",
        cid="<map@alpenkraft.example>",
        filename="map.png",
        disposition="inline",
    )
    return octets(message)


def qr_code(scene: Scene) -> bytes:
    """A link in a QR code, attached as an image."""
    message = start(scene, "Rundtisch", "tickets@rundtisch.example", "Your ticket")
    only_html(message, page("Show this code at the door."))
    ticket = _qr_png(scene.url("meet.rundtisch", f"/ticket/{scene.number}"))
    message.add_attachment(ticket, maintype="image", subtype="png", filename="ticket.png")
    return octets(message)


def _qr_png(text: str) -> bytes:
    image = cv2.QRCodeEncoder.create().encode(text)
    large = cv2.resize(image, None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST)
    return bytes(cv2.imencode(".png", large)[1].tobytes())


def bounce(scene: Scene) -> bytes:
    """A delivery status notification (RFC 3464)."""
    message = start(scene, "Mail Delivery System", "mailer-daemon@mx.example", "Undelivered Mail Returned to Sender")
    text = octets(message).rstrip(b"\r\n")
    return text + (
        b'\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary="dsn"\r\n\r\n'
        b"--dsn\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nYour message could not be delivered. See\r\n"
        b"http://lists.harbour-forum.localhost/help for help.\r\n\r\n--dsn\r\n"
        b"Content-Type: message/delivery-status\r\n\r\n"
        b"Reporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; nobody@hafenwerk.example\r\nAction: failed\r\n"
        b"Status: 5.1.1\r\n\r\n--dsn--\r\n"
    )
