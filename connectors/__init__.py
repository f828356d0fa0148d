"""Clients of the mail providers, as a library: no database, no settings, nothing of ``app``."""
