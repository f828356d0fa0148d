"""Google Workspace: Gmail, the Directory, Pub/Sub and sign-in.

Importing this package loads no SDK. :mod:`.notifications` and :mod:`.config` never do, so that the role
which only receives notifications stays small; everything else loads google-api-python-client and
google-auth on first use (see :mod:`.sdk`).
"""
