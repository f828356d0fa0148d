"""Letters from shops and services: newsletters, invoices, resets, sign-in links, parcels."""

from __future__ import annotations

from datetime import timedelta
from email.message import EmailMessage

from connectors.emulators.demo.writing import Scene, both, button, link, octets, only_html, only_text, page, start

_PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>endobj\n"
    b"4 0 obj<</Length 47>>stream\nBT /F1 18 Tf 40 120 Td (Rechnung Elbkontor) Tj ET\nendstream endobj\n"
    b"5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


def newsletter(scene: Scene) -> bytes:
    """English newsletter with many links, a pixel, and one-click unsubscribe (RFC 8058)."""
    message = start(scene, "Lumen Post", "letter@lumen-post.example", f"Cities that work at night, no. {scene.number}")
    message["List-Unsubscribe"] = f"<{scene.url('news.lumen-post', '/unsubscribe?u=' + scene.token(20))}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    stories = ["harbours", "bakeries", "trams", "observatories", "newsrooms"]
    query = "?utm_source=letter&utm_medium=mail&utm_campaign=night"
    items = "".join(
        f"<li>{link(scene.url('news.lumen-post', f'/{name}{query}'), f'What {name} do after dark')}</li>"
        for name in stories
    )
    html = page(
        f"Dear {scene.first_name}, five stories for the weekend:",
        f"<ul>{items}</ul>",
        button(scene.url("news.lumen-post", "/archive?year=2026&page=2"), "All stories"),
        f'<img src="{scene.url("news.lumen-post", "/open.png")}" width="1" height="1" alt="">',
        f"No more letters? {link(scene.url('news.lumen-post', '/unsubscribe?u=' + scene.token(20)), 'Unsubscribe')}",
        heading="Cities that work at night",
    )
    text = "\n".join(f"{name}: {scene.url('news.lumen-post', f'/{name}')}" for name in stories)
    return octets(both(message, f"Dear {scene.first_name},\n\n{text}\n", html))


def angebote(scene: Scene) -> bytes:
    """German newsletter in ISO-8859-1, quoted-printable."""
    message = start(scene, "Alpenkraft Bergsport", "angebote@alpenkraft.example", "Schöne Grüße aus der Hütte: 3 für 2")
    message["List-Unsubscribe"] = f"<{scene.url('shop.alpenkraft', '/abmelden')}>"
    html = page(
        f"Grüß dich {scene.first_name}, nur bis Sonntag:",
        f"<ul><li>{link(scene.url('shop.alpenkraft', '/jacken?größe=M&farbe=blau'), 'Jacken für Übergangstage')}</li>"
        f"<li>{link(scene.url('shop.alpenkraft', '/rucksäcke'), 'Rucksäcke')}</li></ul>",
        button(scene.url("shop.alpenkraft", "/angebote"), "Zu den Angeboten"),
        language="de",
        heading="3 für 2 auf alles aus Wolle",
    ).replace('<meta charset="utf-8">', "")
    text = f"Alle Angebote: {scene.url('shop.alpenkraft', '/angebote')}\nViele Grüße\n"
    return octets(both(message, text, html, charset="iso-8859-1"))


def shinkan(scene: Scene) -> bytes:
    """Japanese newsletter as text in ISO-2022-JP, 7bit."""
    message = start(scene, "春日書房", "shinkan@kasuga-shobo.example", "【春日書房】今月の新刊のお知らせ")
    text = (
        f"{scene.to.name} 様\n\nいつもご利用いただきありがとうございます。\n"
        f"今月の新刊はこちら。\n{scene.url('books.kasuga', '/new')}\n\n"
        f"（配信停止は{scene.url('books.kasuga', '/stop')}）\n"
    )
    return octets(only_text(message, text, charset="iso-2022-jp", cte="7bit"))


def chumon(scene: Scene) -> bytes:
    """Japanese order confirmation, UTF-8 in base64."""
    subject = f"ご注文ありがとうございます（注文番号 {scene.number}）"
    message = start(scene, "星マーケット", "order@hoshi-market.example", subject)
    order = scene.url("order.hoshi-market", f"/orders/{scene.number}")
    html = page(
        f"{scene.to.name} 様",
        f"ご注文を承りました。詳細は{link(order, '注文履歴')}をご覧ください。",
        button(f"{order}/track", "配送状況を確認する"),
        language="ja",
        heading="ご注文の確認",
    )
    text = f"ご注文番号: {scene.number}\n{order}\n"
    return octets(both(message, text, html, cte="base64"))


def rechnung(scene: Scene) -> bytes:
    """German invoice with a PDF and a payment portal."""
    message = start(
        scene, "Elbkontor Buchhaltung", "rechnung@elbkontor.example", f"Ihre Rechnung RE-{scene.number:06d}"
    )
    html = page(
        f"Sehr geehrte/r {scene.to.name},",
        f"anbei die Rechnung RE-{scene.number:06d}. Sie können sie auch im "
        f"{link(scene.url('portal.elbkontor', f'/r/{scene.number}?k={scene.token(12)}'), 'Rechnungsportal')} ansehen.",
        "Mit freundlichen Grüßen<br>Elbkontor",
        language="de",
    )
    text = f"Rechnung: {scene.url('portal.elbkontor', f'/r/{scene.number}')}\n"
    both(message, text, html, charset="windows-1252")
    message.add_attachment(_PDF, maintype="application", subtype="pdf", filename=f"Rechnung RE-{scene.number:06d}.pdf")
    return octets(message)


def password_reset(scene: Scene) -> bytes:
    """A single-use reset link; a checker that fetched it would use it up."""
    message = start(scene, "Tidepool", "no-reply@tidepool.example", "Reset your Tidepool password")
    address = scene.url("account.tidepool", f"/password/reset?token={scene.token(40)}")
    html = page(
        f"Hello {scene.first_name}, somebody asked for a new password. The link works once, for 30 minutes.",
        button(address, "Choose a new password"),
        f"Or copy this: {link(address)}",
        "If that was not you, ignore this mail.",
        heading="Reset your password",
    )
    return octets(both(message, f"Choose a new password: {address}\n", html))


def sign_in_link(scene: Scene) -> bytes:
    """A magic link, HTML only."""
    message = start(scene, "Tidepool", "no-reply@tidepool.example", "Your sign-in link")
    address = scene.url("account.tidepool", f"/magic/{scene.token(48)}")
    html = page("Here is your link. It works once.", button(address, "Sign in to Tidepool"), heading="Sign in")
    return octets(only_html(message, html))


def confirm_address(scene: Scene) -> bytes:
    """Confirmation of an address, text only."""
    message = start(scene, "Klarblick", "hello@klarblick.example", "Please confirm your address")
    address = scene.url("survey.klarblick", f"/confirm?c={scene.token(24)}")
    text = f"Hi {scene.first_name},\n\nplease confirm (works once): <{address}>.\n\nThe Klarblick team\n"
    return octets(only_text(message, text, cte="7bit"))


def parcel(scene: Scene) -> bytes:
    """Parcel notice with tracking parameters and a map with areas."""
    message = start(scene, "Parcelwind", "notice@parcelwind.example", f"Parcel PW{scene.number:08d} arrives tomorrow")
    address = scene.url("track.parcelwind", f"/t/PW{scene.number:08d}?utm_source=mail&gclid={scene.token(16)}&lang=en")
    day = (scene.now + timedelta(days=1)).strftime("%A")
    html = page(
        f"Your parcel arrives on {day} between 10 and 14.",
        button(address, "Follow it"),
        f'<img src="{scene.url("track.parcelwind", "/map.png")}" usemap="#m" width="200" height="80" alt="Depots">'
        f'<map name="m"><area shape="rect" coords="0,0,100,80" href="{scene.url("track.parcelwind", "/north")}"'
        f' alt="North"><area shape="rect" coords="100,0,200,80" href="{scene.url("track.parcelwind", "/south")}"'
        ' alt="South"></map>',
        heading="On its way",
    )
    return octets(both(message, f"Follow your parcel: {address}\n", html))


def survey(scene: Scene) -> bytes:
    """A survey with a form in the mail."""
    message = start(scene, "Klarblick", "hello@klarblick.example", "Two minutes for a question?")
    html = page(
        "How likely are you to recommend us?",
        f'<form action="{scene.url("survey.klarblick", "/vote")}" method="get"><input type="hidden" name="q" value="7">'
        '<button type="submit">Answer</button></form>',
        f"In the browser: {link(scene.url('survey.klarblick', f'/q/{scene.number}'))}",
    )
    return octets(only_html(message, html, cte="quoted-printable"))


def shared_document(scene: Scene) -> bytes:
    """A shared document."""
    message = start(scene, "Papierboot", "share@papierboot.example", "Lena Brandt shared “Tour plan” with you")
    address = scene.url("docs.papierboot", f"/d/{scene.token(22)}/edit?usp=sharing")
    html = page("Lena Brandt (lena.brandt@hafenwerk.example) shared a document.", button(address, "Open"))
    return octets(both(message, f"Open: {address}\n", html))


def new_device(scene: Scene) -> bytes:
    """A genuine security notice."""
    message = start(scene, "Tidepool", "security@tidepool.example", "New sign-in to your account")
    devices = link(scene.url("account.tidepool", "/devices"), "look")
    html = page(
        f"We noticed a new sign-in, {scene.now.strftime('%d %B %Y, %H:%M')} UTC.",
        f"Was it you? Then there is nothing to do. Otherwise {devices}.",
        heading="New device",
    )
    return octets(only_html(message, html))


def big_letter(scene: Scene) -> bytes:
    """Sixty links and conditional comments for Outlook, as newsletter tools write them."""
    message: EmailMessage = start(scene, "Lumen Post", "letter@lumen-post.example", "The long reads of the year")
    rows = "".join(
        f'<tr><td>{index}.</td><td><a href="{scene.url("news.lumen-post", f"/reads/{index}?ref=year&amp;n={index}")}">'
        f"Long read {index}</a></td></tr>"
        for index in range(1, 61)
    )
    target = scene.url("news.lumen-post", "/year")
    html = page(
        f"<table>{rows}</table>",
        '<!--[if mso]><v:roundrect xmlns:v="urn:schemas-microsoft-com:vml" '
        f'href="{target}" style="height:40px;width:200px"><center>Read on</center></v:roundrect><![endif]-->'
        f'<!--[if !mso]><!--><a href="{target}">Read on</a><!--<![endif]-->',
        heading="The long reads",
    )
    return octets(both(message, f"All long reads: {target}\n", html))
