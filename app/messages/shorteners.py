"""Recognising URL shorteners by host.

A curated list of services where anybody can make a link to anywhere. Shorteners that only their owner
can use (``aka.ms``, ``youtu.be``) are not in it: they say where they lead. Nothing is resolved here.
"""

from __future__ import annotations

from typing import Final

from app.messages.host_findings import HostFinding, finding
from app.messages.hosts import words

SHORTENERS: Final[frozenset[str]] = words("""
    0rz.tw 1url.com 2no.co 2u.lc ad7.biz adf.ly adfoc.us adyou.me b23.ru b54.in bc.vc bee4.biz bit.do
    bit.ly bitly.com bitly.is bitly.ws bl.ink bom.so brief.li buff.ly bumplink.co cektkp.com chilp.it
    chng.it clck.ru cli.re clicky.me cutit.org cutt.ly cutt.us cuttly.com da.gd dai.ly db.tt did.li
    dlj.bz dlvr.it dub.co dub.sh dwz.cn encurtador.com.br exe.io ey.io fa.by fur.ly geni.us gg.gg gns.io
    goo.gl gotiny.cc han.gl hbe.io hideuri.com hubs.la hubs.li hubs.ly hyperurl.co ibit.ly ift.tt is.gd
    ity.im j.mp kutt.it kutt.to l.ead.me l1nk.dev lc.chat link.tl linklyhq.com linkr.it lnk.bio lnk.to
    lnkd.in lnkiy.in lstu.fr ltl.is lurl.cc maper.info mcaf.ee me2.do merky.de microurl.net migre.me
    mub.me murl.com n9.cl nsfw.in nutshellurl.com ouo.io ow.ly owl.li oxl.me pages.gd plu.sh po.st
    ppt.cc prettylinkpro.com psee.io q.gs qps.ru qr.ae qr.net qr1.be qrco.de qrcodes.pro rb.gy rb6.me
    rebrand.ly rebrandly.com reurl.cc rlu.ru rotf.lol rplg.co s.coop s.id s.yam.com s2r.co
    safelinking.net scn.sh scnv.io seedurl.com shor.by short.cm short.gy short.io shortcm.li shorte.st
    shorten.asia shorten.rest shorten.tv shorten.world shorter.me shortlinks.tk shorturl.ac
    shorturl.asia shorturl.at shorturl.gg shorturl.is shrinke.me shrinkme.io shrtco.de shrtm.nu
    shurli.com sk.gy smarturl.it smu.sg snip.link snip.ly snipurl.com snurl.com soo.gd sor.bz spoo.me
    sprl.in srnk.net ssur.cc surl.li swiy.co swll.to t.cn t.co t.ly t2m.io t2mio.com tagly.co tiny.cc
    tiny.ee tiny.one tiny.pl tinyarrows.com tinylink.in tinylink.net tinylink.onl tinyuri.ca tinyurl.com
    tinyurl.is tinyurl.mobi tl.gd tny.im to.ly tr.im trib.al tweez.md twurl.nl u.nu u.to ulvis.net
    ur1.ca url.cn url.ie url.rw url4.eu urlcorner.com urlcut.com urlday.cc urle.me urlr.me urls.fr
    urluno.com urlz.fr urlzs.com utfg.sk utm.io v.gd v.ht virg.co vl.am vurl.com w.wiki waa.ai
    wapurl.co.uk whr.tn wow.link wq.lt x.co x.gd xgd.io xrl.us xurl.es y2u.be yep.it yko.io yourls.org
    yourwish.es zi.ma zip.net zpr.io zurl.co zurl.io zzb.bz
""")
"""Hosts of shorteners. A ``www.`` in front and, for :data:`BY_SUBDOMAIN`, any subdomain counts too."""

BY_SUBDOMAIN: Final[frozenset[str]] = frozenset(
    {
        "page.link",
        "onelink.me",
        "app.link",
        "short.gy",
        "lnk.to",
        "bitly.com",
        "sng.link",
        "dub.sh",
        "rebrandly.com",
    }
)
"""Shorteners whose customers have a subdomain each."""


def shortener(host: str) -> str | None:
    """Return the shortener a host belongs to.

    Args:
        host: A host in lower case (:func:`app.messages.hosts.host_of`).

    Returns:
        The service's host, or None. Subdomains count only for :data:`BY_SUBDOMAIN` and ``www.``.
    """
    bare = host.removeprefix("www.")
    if bare in SHORTENERS:
        return bare
    parent = ".".join(bare.rsplit(".", 2)[-2:])
    return parent if parent in BY_SUBDOMAIN and parent != bare else None


def shortener_finding(host: str) -> HostFinding | None:
    """Return the finding for a shortener's host, or None."""
    service = shortener(host)
    return None if service is None else finding("shortener", "weak", service=service)
