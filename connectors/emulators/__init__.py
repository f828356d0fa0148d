"""Stateful stand-ins for the providers that Postern talks to, on loopback only.

Microsoft Graph mail and Entra ID, Gmail with Directory and Pub/Sub, a mailbox viewer for people, demo
websites and fault injection. Nothing here is imported by the clients and nothing of the clients is
imported here: what both sides agree on is what the providers document.
"""
