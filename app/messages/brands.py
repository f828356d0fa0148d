"""Well-known names that phishing imitates, and the domains they really use.

A short curated list, not a census: the names that public phishing reports put at the top year after year,
each with its main registrable domains. A tenant's own domains come first and are not in here.

``fuzzy`` is off for names that are ordinary words or a letter away from one (``chase``, ``apple``): they are
then only recognised exactly, never at an edit distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from app.messages.hosts import words


@dataclass(frozen=True, slots=True)
class Brand:
    """A name that is imitated.

    Attributes:
        name: The name as its domains spell it: one label, a to z, digits and hyphens.
        domains: Registrable domains that belong to it; the first is the one to show.
        fuzzy: Whether near spellings count as imitation.
    """

    name: str
    domains: tuple[str, ...]
    fuzzy: bool = True


def _brand(name: str, domains: str, *, fuzzy: bool = True) -> Brand:
    return Brand(name, tuple(domains.split()), fuzzy)


BRANDS: Final[tuple[Brand, ...]] = (
    # Mail, office and cloud
    _brand(
        "microsoft",
        "microsoft.com microsoftonline.com live.com office.com office365.com outlook.com hotmail.com "
        "sharepoint.com onedrive.com msn.com azure.com windows.com windows.net skype.com aka.ms "
        "microsoft365.com microsoft.net xbox.com visualstudio.com microsoftemail.com onmicrosoft.com "
        "azure.net bing.com cloud.microsoft microsoftstream.com office.net windowsazure.com "
        "microsoftstore.com passport.com",
    ),
    _brand("office365", "office365.com microsoft365.com office.com microsoft.com"),
    _brand("microsoftonline", "microsoftonline.com microsoftonline-p.com microsoft.com"),
    _brand("outlook", "outlook.com office.com office365.com microsoft.com live.com", fuzzy=False),
    _brand("onedrive", "onedrive.com live.com microsoft.com 1drv.ms"),
    _brand("sharepoint", "sharepoint.com microsoft.com sharepointonline.com"),
    _brand(
        "google",
        "google.com goo.gle gmail.com youtube.com gstatic.com googlemail.com google.dev "
        "googleusercontent.com goo.gl g.co android.com chrome.com blogger.com google-analytics.com "
        "googletagmanager.com googleadservices.com doubleclick.net googlesyndication.com googlegroups.com "
        "googlesource.com youtu.be googleblog.com thinkwithgoogle.com google.de google.co.uk google.co.jp "
        "google.fr google.it google.es google.ca google.co.in google.com.au google.com.br google.com.mx "
        "google.nl google.se google.pl google.ch google.at google.be google.cn",
        fuzzy=False,
    ),
    _brand("gmail", "gmail.com google.com", fuzzy=False),
    _brand("youtube", "youtube.com youtu.be google.com youtube-nocookie.com ytimg.com"),
    _brand("apple", "apple.com icloud.com me.com mac.com itunes.com apple.co", fuzzy=False),
    _brand("icloud", "icloud.com apple.com me.com icloud-content.com"),
    _brand("adobe", "adobe.com adobe.io acrobat.com adobesign.com typekit.com adobelogin.com", fuzzy=False),
    _brand("dropbox", "dropbox.com dropboxusercontent.com dropboxmail.com dropboxapi.com db.tt"),
    _brand("docusign", "docusign.com docusign.net docusign.io"),
    _brand("wetransfer", "wetransfer.com we.tl wetransfer.net"),
    _brand("yahoo", "yahoo.com yahoo.net yimg.com yahoo.co.jp ymail.com yahooapis.com", fuzzy=False),
    _brand("zoom", "zoom.us zoom.com zoomgov.com", fuzzy=False),
    _brand("salesforce", "salesforce.com force.com exacttarget.com salesforce-sites.com"),
    _brand("github", "github.com github.dev githubassets.com githubstatus.com"),
    _brand("gitlab", "gitlab.com gitlab.net"),
    _brand("atlassian", "atlassian.com atlassian.net jira.com bitbucket.org atlassian-us-gov-mod.net"),
    _brand("godaddy", "godaddy.com secureserver.net godaddy.net"),
    _brand("okta", "okta.com oktapreview.com okta-emea.com oktacdn.com", fuzzy=False),
    _brand("proton", "proton.me protonmail.com proton.ch", fuzzy=False),
    _brand("cloudflare", "cloudflare.com cloudflareinsights.com cloudflarestatus.com cloudflare-dns.com"),
    # Payment and crypto
    _brand(
        "paypal",
        "paypal.com paypal.me paypalobjects.com paypal-communication.com paypalcorp.com paypal-notice.com "
        "paypal-prepaid.com paypal-community.com paypal-brandcentral.com",
    ),
    _brand("stripe", "stripe.com stripe.network stripecdn.com", fuzzy=False),
    _brand("coinbase", "coinbase.com cbhq.net"),
    _brand("binance", "binance.com binance.us binance.org bnbstatic.com"),
    _brand("blockchain", "blockchain.com blockchain.info", fuzzy=False),
    _brand("metamask", "metamask.io"),
    _brand("trustwallet", "trustwallet.com"),
    _brand("kraken", "kraken.com", fuzzy=False),
    _brand("ledger", "ledger.com", fuzzy=False),
    _brand("westernunion", "westernunion.com"),
    _brand("moneygram", "moneygram.com"),
    _brand("mastercard", "mastercard.com mastercard.us"),
    _brand("americanexpress", "americanexpress.com aexp.com aexp-static.com"),
    _brand("klarna", "klarna.com klarna.net klarnacdn.net"),
    _brand("revolut", "revolut.com revolut.me"),
    _brand("venmo", "venmo.com"),
    # Banks
    _brand("bankofamerica", "bankofamerica.com bofa.com"),
    _brand("wellsfargo", "wellsfargo.com wf.com"),
    _brand("jpmorgan", "jpmorgan.com jpmorganchase.com chase.com"),
    _brand("chase", "chase.com jpmorganchase.com", fuzzy=False),
    _brand("citibank", "citibank.com citi.com"),
    _brand("capitalone", "capitalone.com capitalone360.com"),
    _brand("usbank", "usbank.com", fuzzy=False),
    _brand("hsbc", "hsbc.com hsbc.co.uk", fuzzy=False),
    _brand("barclays", "barclays.com barclays.co.uk barclays.net barclaycard.co.uk"),
    _brand("lloydsbank", "lloydsbank.com lloydsbank.co.uk lloydsbankinggroup.com"),
    _brand("santander", "santander.com santander.co.uk santander.de santanderbank.com"),
    _brand("commerzbank", "commerzbank.de commerzbank.com"),
    _brand("deutschebank", "deutschebank.de db.com"),
    _brand("deutsche-bank", "deutsche-bank.de db.com"),
    _brand("sparkasse", "sparkasse.de sparkasse.at"),
    _brand("postbank", "postbank.de"),
    _brand("raiffeisen", "raiffeisen.at raiffeisen.ch raiffeisen.com rbinternational.com"),
    _brand("creditagricole", "creditagricole.com credit-agricole.fr"),
    _brand("bnpparibas", "bnpparibas.com bnpparibas.fr bnpparibas.net"),
    _brand("smbc", "smbc.co.jp", fuzzy=False),
    _brand("mizuhobank", "mizuhobank.co.jp mizuhogroup.com"),
    _brand(
        "rakuten",
        "rakuten.co.jp rakuten.com rakuten.ne.jp rakuten-card.co.jp rakuten-sec.co.jp rakuten-bank.co.jp",
    ),
    _brand("mercari", "mercari.com mercari.jp"),
    # Shops, parcels and travel
    _brand(
        "amazon",
        "amazon.com amazonaws.com amazon.jobs media-amazon.com ssl-images-amazon.com aboutamazon.com "
        "amazonses.com amazon.science amazon-adsystem.com amzn.to amazonpay.com aboutamazon.co.uk "
        "payments-amazon.com amazonbusiness.com amazoncognito.com amazon.de amazon.co.uk amazon.co.jp "
        "amazon.fr amazon.it amazon.es amazon.ca amazon.in amazon.com.au amazon.com.br amazon.com.mx "
        "amazon.nl amazon.se amazon.pl amazon.com.tr amazon.ae amazon.sg amazon.cn primevideo.com",
        fuzzy=False,
    ),
    _brand(
        "ebay",
        "ebay.com ebaystatic.com ebayinc.com ebay.de ebay.co.uk ebay.com.au ebay.ca ebay.fr ebay.it "
        "ebay.es ebay.at ebay.ch ebay.nl ebay.pl ebay.ie ebay.be",
        fuzzy=False,
    ),
    _brand("alibaba", "alibaba.com alibabacloud.com alibabagroup.com"),
    _brand("aliexpress", "aliexpress.com"),
    _brand("walmart", "walmart.com walmart.ca walmartimages.com"),
    _brand("costco", "costco.com costco.ca"),
    _brand("shopify", "shopify.com shopifycdn.com shopifyemail.com"),
    _brand("booking", "booking.com", fuzzy=False),
    _brand("airbnb", "airbnb.com airbnbmail.com"),
    _brand("fedex", "fedex.com", fuzzy=False),
    _brand("ups", "ups.com", fuzzy=False),
    _brand("usps", "usps.com usps.gov", fuzzy=False),
    _brand("dhl", "dhl.com dhl.de dpdhl.com dhl-news.com", fuzzy=False),
    _brand("royalmail", "royalmail.com royalmail.co.uk"),
    _brand("correos", "correos.es"),
    _brand("laposte", "laposte.fr laposte.net"),
    _brand("evri", "evri.com", fuzzy=False),
    _brand("postnl", "postnl.nl postnl.com"),
    # Social and media
    _brand("facebook", "facebook.com fb.com facebookmail.com fb.me meta.com facebook.net fbcdn.net metamail.com"),
    _brand("instagram", "instagram.com instagr.am cdninstagram.com"),
    _brand("whatsapp", "whatsapp.com wa.me whatsapp.net"),
    _brand("linkedin", "linkedin.com lnkd.in licdn.com linkedin-ei.com"),
    _brand("twitter", "twitter.com x.com t.co twimg.com", fuzzy=False),
    _brand("telegram", "telegram.org t.me telegram.me telegram.dog", fuzzy=False),
    _brand("tiktok", "tiktok.com tiktokv.com tiktokcdn.com"),
    _brand("netflix", "netflix.com netflix.net nflxext.com nflximg.net"),
    _brand("spotify", "spotify.com scdn.co spotify.link"),
    _brand("disneyplus", "disneyplus.com disney.com go.com"),
    _brand("steamcommunity", "steamcommunity.com steampowered.com"),
    _brand("steampowered", "steampowered.com steamcommunity.com"),
    _brand("roblox", "roblox.com rbxcdn.com"),
    _brand("epicgames", "epicgames.com epicgames.dev"),
    _brand("discord", "discord.com discord.gg discordapp.com discord.media discordapp.net", fuzzy=False),
    # Telecommunications and the state
    _brand("verizon", "verizon.com verizonwireless.com verizon.net verizonbusiness.com vzw.com"),
    _brand("t-mobile", "t-mobile.com t-mobile.de t-mobile.nl", fuzzy=False),
    _brand("vodafone", "vodafone.com vodafone.de vodafone.co.uk vodafone.es vodafone.it vodafone-ip.de"),
    _brand("telekom", "telekom.de telekom.com t-online.de", fuzzy=False),
    _brand("comcast", "comcast.com comcast.net xfinity.com"),
    _brand("elster", "elster.de", fuzzy=False),
)
"""The shipped list."""


def _by_domain() -> Mapping[str, frozenset[str]]:
    owners: dict[str, set[str]] = {}
    for brand in BRANDS:
        for domain in brand.domains:
            owners.setdefault(domain, set()).add(brand.name)
    return MappingProxyType({domain: frozenset(names) for domain, names in owners.items()})


OWNERS: Final = _by_domain()
"""Registrable domain -> names of the brands it belongs to."""


USER_CONTENT: Final = words("""
    1drv.ms amazonaws.com amazoncognito.com atlassian.net azure.net db.tt dropboxusercontent.com force.com
    goo.gl googlegroups.com googleusercontent.com lnkd.in onmicrosoft.com sharepoint.com t.co t.me telegram.me
    wa.me windows.net
""")
"""Domains of brands where anybody can put a page or a link: they vouch for nothing."""


def same_owner(first: str, second: str) -> bool:
    """Whether two registrable domains belong to one brand, as far as the list knows.

    Domains with other people's content (:data:`USER_CONTENT`) belong to nobody in this sense.
    """
    if first in USER_CONTENT or second in USER_CONTENT:
        return False
    return bool(OWNERS.get(first, frozenset()) & OWNERS.get(second, frozenset()))
