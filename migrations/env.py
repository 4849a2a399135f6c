"""Alembic's entry: the gateway hands over its own open connection (see waybridge.store.migrate)."""

from alembic import context

from waybridge.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=False
)
with context.begin_transaction():
    context.run_migrations()
