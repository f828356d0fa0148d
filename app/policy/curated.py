"""Hosts that are never rewritten at delivery unless a tenant blocks them: our own short list.

Each belongs to a body that publishes documents of its own, takes no content from the public on that name and
offers no open redirect there. A well-known name is no reason to be here: most big sites host other people's
pages. The list only keeps links as they were written; a click on a rewritten link is judged as any other.
"""

from __future__ import annotations

from typing import Final

CURATED_HOSTS: Final = frozenset(
    {
        "www.iana.org",
        "www.icann.org",
        "www.ietf.org",
        "datatracker.ietf.org",
        "www.rfc-editor.org",
        "www.w3.org",
        "www.unicode.org",
        "www.iso.org",
        "www.itu.int",
        "www.who.int",
        "www.un.org",
        "eur-lex.europa.eu",
        "www.bundesregierung.de",
        "www.bsi.bund.de",
        "www.gesetze-im-internet.de",
        "www.nist.gov",
        "nvd.nist.gov",
        "www.cisa.gov",
        "www.jpcert.or.jp",
        "www.ipa.go.jp",
        "www.npa.go.jp",
    }
)
"""Exact hosts."""
