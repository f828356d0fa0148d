"""Database migrations (Alembic) and how to run them."""
