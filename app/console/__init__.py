"""The console: pages for the people of a tenant, and a small JSON API."""
