"""Tenants, their people, roles and sessions."""
