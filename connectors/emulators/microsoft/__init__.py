"""Microsoft Graph mail and Entra ID, as documented on learn.microsoft.com, with state.

``state`` holds tenants and mailboxes, ``graph*`` speaks Graph v1.0, ``entra*`` speaks OpenID Connect and the
client credentials grant. Each behaviour names the page that it follows.
"""
