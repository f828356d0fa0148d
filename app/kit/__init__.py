"""Shared foundations: database, jobs, crypto, logs. Knows nothing of mail."""
