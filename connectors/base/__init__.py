"""What every mailbox connector is: the protocol, plain types and the error tree.

Nothing here knows a provider. ``app`` packages import this package only; the provider packages are
reached through :mod:`connectors.registry`.
"""
