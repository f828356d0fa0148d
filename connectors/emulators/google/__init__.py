"""A stateful stand-in for Google Workspace: Gmail, Directory, Pub/Sub, OAuth, OIDC and IAM credentials.

Start with :mod:`connectors.emulators.google.app` (the addresses served) and
:class:`connectors.emulators.google.state.GoogleState` (what a test or the demo does to it).
"""
