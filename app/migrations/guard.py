"""Statements that every migration of tenant tables needs: row-level security and grants.

``FORCE`` is not used: the owner runs migrations and the routing functions below it, the application connects
as another role (https://www.postgresql.org/docs/current/ddl-rowsecurity.html).
"""

from __future__ import annotations

from alembic import op

APP_ROLE = "postern_app"
_TENANT = "NULLIF(current_setting('postern.tenant_id', true), '')::uuid"


def guard(table: str, privileges: str = "SELECT, INSERT, UPDATE, DELETE") -> None:
    """Show and accept rows of the transaction's tenant alone; without a tenant, none."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant_only ON {table} USING (tenant_id = {_TENANT}) WITH CHECK (tenant_id = {_TENANT})")
    grant(table, privileges)


def grant(table: str, privileges: str = "SELECT, INSERT, UPDATE, DELETE") -> None:
    """Let the application's role use a table."""
    op.execute(f"GRANT {privileges} ON {table} TO {APP_ROLE}")


def routing_function(signature: str, returns: str, query: str) -> None:
    """A function that answers across tenants, and only what routing needs.

    It runs as the owner with a fixed search path
    (https://www.postgresql.org/docs/current/sql-createfunction.html, "Writing SECURITY DEFINER Functions Safely").
    """
    name = signature.split("(", 1)[0]
    op.execute(
        f"CREATE FUNCTION {signature} RETURNS {returns} LANGUAGE sql STABLE SECURITY DEFINER "
        f"SET search_path = pg_catalog, public, pg_temp AS $$ {query} $$"
    )
    op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {APP_ROLE}")
