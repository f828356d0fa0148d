"""Microsoft 365 through Microsoft Graph.

Importing this package, :mod:`~connectors.microsoft.config`, :mod:`~connectors.microsoft.notifications` or
:mod:`~connectors.microsoft.identity` loads no Microsoft SDK; the connector loads it at its first request.
"""
