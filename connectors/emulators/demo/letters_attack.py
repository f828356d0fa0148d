"""Letters that mean harm, or look as if they did. All pages behind them are harmless demonstrations."""

from __future__ import annotations

from connectors.emulators.demo.feed import TURNS_BAD
from connectors.emulators.demo.writing import Scene, both, button, link, octets, only_html, only_text, page, start


def phishing(scene: Scene) -> bytes:
    """A fake sign-in page behind a look-alike host."""
    message = start(scene, "PayPa1 Service", "service@paypa1-secure.example", "Your account has been limited")
    address = scene.url("login.paypa1-secure", f"/signin?session={scene.token(18)}")
    html = page(
        "Dear customer, we noticed unusual activity. Confirm your account within 24 hours.",
        button(address, "Confirm my account"),
        colour="#003087",
        heading="Action required",
    )
    return octets(both(message, f"Confirm your account: {address}\n", html))


def phishing_de(scene: Scene) -> bytes:
    """The same in German, in the name of the company's own sign-in; HTML only, base64."""
    message = start(scene, "IT-Service", "it-service@nordwind-sso.example", "Ihr Postfach ist fast voll")
    html = page(
        f"Guten Tag {scene.to.name}, Ihr Postfach ist zu 98 % belegt.",
        button(scene.url("login.nordwind-sso", "/postfach"), "Speicher freigeben"),
        language="de",
        heading="Postfach fast voll",
    )
    return octets(only_html(message, html))


def phishing_ja(scene: Scene) -> bytes:
    """The same in Japanese."""
    message = start(scene, "メール管理者", "admin@kasuga-mail.example", "【重要】パスワードの有効期限について")
    html = page(
        f"{scene.to.name} 様、パスワードの有効期限が切れます。",
        button(scene.url("signin.kasuga-mail", "/renew"), "今すぐ更新する"),
        language="ja",
    )
    return octets(only_html(message, html))


def lying_text(scene: Scene) -> bytes:
    """The text shows one address, the link leads to another."""
    message = start(scene, "Bankhaus Elbe", "info@bankhaus-elbe.example", "Neue Nachricht in Ihrem Postfach")
    target = scene.url("verify.bankhaus-elbe", "/tan")
    html = page(
        "Sie haben eine neue Nachricht:",
        f"<p>{link(target, 'https://www.bankhaus-elbe.example/postfach')}</p>",
        language="de",
    )
    return octets(only_html(message, html, charset="iso-8859-1", cte="quoted-printable"))


def voucher(scene: Scene) -> bytes:
    """Suspicious, not proven bad."""
    message = start(scene, "Voucher Rad", "spin@voucher-rad.example", "You have won (maybe)")
    html = page(
        f"{scene.first_name}, your spin is waiting.",
        button(scene.url("win.voucher-rad", f"/spin?id={scene.number}"), "Spin the wheel"),
        colour="#b35900",
    )
    return octets(only_html(message, html))


def shortener(scene: Scene) -> bytes:
    """Short links: one leads to an article, one to the fake sign-in page."""
    message = start(scene, "Kim Larsen", "kim@fjordtech.example", "have you seen this?")
    text = f"Look: {scene.url('s.kurz1', '/a7Kq2')} and also {scene.url('s.kurz1', '/Zx91b')}\n"
    return octets(only_text(message, text, cte="7bit"))


def turns_bad(scene: Scene) -> bytes:
    """Harmless at delivery; turns bad when somebody says so (``/control/turn-bad``)."""
    message = start(scene, "Nordhafen Dokumente", "teilen@nordhafen-dokumente.example", "Dokument für Sie freigegeben")
    html = page(
        "Ein Dokument wurde für Sie freigegeben.",
        button(scene.url(TURNS_BAD, f"/d/{scene.number}"), "Dokument öffnen"),
        language="de",
    )
    return octets(both(message, f"Dokument: {scene.url(TURNS_BAD, f'/d/{scene.number}')}\n", html))


def bare_address(scene: Scene) -> bytes:
    """An IP address as host, in decimal and in plain spelling."""
    message = start(scene, "Scanner", "scanner@kopiererei.example", "Scan from device")
    plain = f"http://127.0.0.1:{scene.port}/sites/docs.papierboot/scan"
    decimal = f"http://2130706433:{scene.port}/sites/docs.papierboot/scan"
    html = page(f"Your scan: {link(plain, 'open')} or {link(decimal, 'open here')}.")
    return octets(only_html(message, html))


def look_alike(scene: Scene) -> bytes:
    """A Cyrillic letter in the host, and a host before an @."""
    message = start(scene, "Mara Lindt", "mara.lindt@nordwlnd.example", "Kurze Bitte")
    homograph = f"http://intranet.nordw\u0456nd.localhost:{scene.port}/freigabe"
    userinfo = f"http://intranet.nordwind.localhost@verify.bankhaus-elbe.localhost:{scene.port}/freigabe"
    html = page(
        f"Kannst du das bitte freigeben? {link(homograph, 'Freigabe')} ({link(userinfo, 'Kopie')})", language="de"
    )
    return octets(both(message, f"Freigabe: {homograph}\n", html))
