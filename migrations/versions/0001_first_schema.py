"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "clients",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("instances", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_clients")),
    )
    op.create_table(
        "connections",
        sa.Column("id", Number, autoincrement=True, nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("settings_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.Text(), server_default="starting", nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_position_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("owner_node", sa.Text(), nullable=True),
        sa.Column("lease_until_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connections")),
        sa.UniqueConstraint("connection_id", "instance_id", name=op.f("uq_connections_connection_id_instance_id")),
    )
    op.create_table(
        "devices",
        sa.Column("id", Number, autoincrement=True, nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("device_token", sa.Text(), nullable=False),
        sa.Column("display_field", sa.Text(), server_default="full_name", nullable=False),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.Column("profile_updated_us", sa.BigInteger(), nullable=True),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("winner_source_id", sa.BigInteger(), nullable=True),
        sa.Column("winner_since_us", sa.BigInteger(), nullable=True),
        sa.Column("hold_seconds", sa.Float(), server_default="30", nullable=False),
        sa.Column("online", sa.Boolean(), nullable=True),
        sa.Column("online_since_us", sa.BigInteger(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("stage_at_us", sa.BigInteger(), nullable=True),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
        sa.UniqueConstraint("instance_id", "device_token", name=op.f("uq_devices_instance_id_device_token")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_devices_online",
        "devices",
        ["id"],
        unique=False,
        sqlite_where=sa.text("online"),
        postgresql_where=sa.text("online"),
    )
    op.create_table(
        "groups",
        sa.Column("id", Number, autoincrement=True, nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
        sa.UniqueConstraint("instance_id", "group_id", name=op.f("uq_groups_instance_id_group_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_us", "idempotency_keys", ["created_us"], unique=False)
    op.create_table(
        "instances",
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("embed_origins", sa.Text(), server_default="[]", nullable=False),
        sa.Column("brand", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_instances")),
    )
    op.create_table(
        "keyed_state",
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "connection_id", "key", name=op.f("pk_keyed_state")),
    )
    op.create_table(
        "last",
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("milestone", sa.SmallInteger(), nullable=False),
        sa.Column("recorded_us", sa.BigInteger(), nullable=False),
        sa.Column("sent_us", sa.BigInteger(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("trip_id", sa.BigInteger(), nullable=True),
        sa.Column("latitude", sa.Float(precision=53), nullable=False),
        sa.Column("longitude", sa.Float(precision=53), nullable=False),
        sa.Column("altitude", sa.Float(precision=53), nullable=True),
        sa.Column("accuracy", sa.Float(precision=53), nullable=True),
        sa.Column("speed", sa.Float(precision=53), nullable=True),
        sa.Column("heading", sa.Float(precision=53), nullable=True),
        sa.Column("flags", sa.SmallInteger(), nullable=False),
        sa.Column("extra", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("source_id", "milestone", name=op.f("pk_last")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "nodes",
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_nodes")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.Column("device_token", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("expanded", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("event_id", name=op.f("uq_outbox_event_id")),
    )
    op.create_index("ix_outbox_created_us", "outbox", ["created_us"], unique=False)
    op.create_index("ix_outbox_device_id", "outbox", ["device_id"], unique=False)
    op.create_index("ix_outbox_instance_id_created_us", "outbox", ["instance_id", "created_us"], unique=False)
    op.create_index(
        "ix_outbox_waiting",
        "outbox",
        ["id"],
        unique=False,
        sqlite_where=sa.text("NOT expanded"),
        postgresql_where=sa.text("NOT expanded"),
    )
    op.create_table(
        "positions",
        sa.Column("minute", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("recorded_us", sa.BigInteger(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("trip_id", sa.BigInteger(), nullable=True),
        sa.Column("latitude", sa.Float(precision=53), nullable=False),
        sa.Column("longitude", sa.Float(precision=53), nullable=False),
        sa.Column("altitude", sa.Float(precision=53), nullable=True),
        sa.Column("accuracy", sa.Float(precision=53), nullable=True),
        sa.Column("speed", sa.Float(precision=53), nullable=True),
        sa.Column("heading", sa.Float(precision=53), nullable=True),
        sa.Column("flags", sa.SmallInteger(), nullable=False),
        sa.Column("extra", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("minute", "source_id", "recorded_us", name=op.f("pk_positions")),
        postgresql_partition_by="RANGE (minute)",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rate_limits",
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("arrival_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("pk_rate_limits")),
    )
    op.create_table(
        "session_views",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("address_digest", sa.LargeBinary(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "address_digest", name=op.f("pk_session_views")),
    )
    op.create_table(
        "share_sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("device_token", sa.Text(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("token_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("completed_us", sa.BigInteger(), nullable=True),
        sa.Column("cancelled_us", sa.BigInteger(), nullable=True),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("recipient_name", sa.Text(), nullable=True),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("track_token", sa.Text(), nullable=True),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("share_config", sa.Text(), nullable=False),
        sa.Column("views", sa.Integer(), server_default="0", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_share_sessions")),
        sa.UniqueConstraint("token_digest", name=op.f("uq_share_sessions_token_digest")),
    )
    op.create_index(
        "ix_share_sessions_active",
        "share_sessions",
        ["instance_id", "device_token", "expires_us"],
        unique=False,
        sqlite_where=sa.text("status = 'active'"),
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_index(
        "ix_share_sessions_expiry",
        "share_sessions",
        ["expires_us"],
        unique=False,
        sqlite_where=sa.text("status = 'active'"),
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_index(
        "ix_share_sessions_instance_id_created_us", "share_sessions", ["instance_id", "created_us"], unique=False
    )
    op.create_table(
        "sharing_periods",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sharing_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.Column("device_token", sa.Text(), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=True),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("connection_id", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("shared_by", sa.Text(), nullable=True),
        sa.Column("shared_with", sa.Text(), nullable=True),
        sa.Column("chat_id", sa.Text(), nullable=True),
        sa.Column("began_us", sa.BigInteger(), nullable=False),
        sa.Column("ends_us", sa.BigInteger(), nullable=True),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.Column("start_cause", sa.Text(), nullable=False),
        sa.Column("stop_cause", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sharing_periods")),
        sa.UniqueConstraint("sharing_id", name=op.f("uq_sharing_periods_sharing_id")),
    )
    op.create_index("ix_sharing_periods_device_id", "sharing_periods", ["device_id"], unique=False)
    op.create_index("ix_sharing_periods_session_id", "sharing_periods", ["session_id"], unique=False)
    op.create_index("ix_sharing_periods_source_id_began_us", "sharing_periods", ["source_id", "began_us"], unique=False)
    op.create_index(
        "uq_sharing_periods_open_source",
        "sharing_periods",
        ["source_id"],
        unique=True,
        sqlite_where=sa.text("kind = 'source' AND ended_us IS NULL"),
        postgresql_where=sa.text("kind = 'source' AND ended_us IS NULL"),
    )
    op.create_table(
        "stream_sessions",
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", name=op.f("pk_stream_sessions")),
        sa.UniqueConstraint("token_digest", name=op.f("uq_stream_sessions_token_digest")),
    )
    op.create_index("ix_stream_sessions_expires_us", "stream_sessions", ["expires_us"], unique=False)
    op.create_table(
        "trips",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("track_token", sa.Text(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trips")),
    )
    op.create_index("ix_trips_device_id_started_us", "trips", ["device_id", "started_us"], unique=False)
    op.create_index(
        "ix_trips_open",
        "trips",
        ["source_id"],
        unique=False,
        sqlite_where=sa.text("ended_us IS NULL"),
        postgresql_where=sa.text("ended_us IS NULL"),
    )
    op.create_index("ix_trips_source_id_started_us", "trips", ["source_id", "started_us"], unique=False)
    op.create_index("ix_trips_source_id_track_token", "trips", ["source_id", "track_token"], unique=False)
    op.create_table(
        "webhook_subscriptions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("target_url", sa.Text(), nullable=False),
        sa.Column("subscribed_events", sa.Text(), nullable=False),
        sa.Column("device_tokens", sa.Text(), nullable=True),
        sa.Column("groups", sa.Text(), nullable=True),
        sa.Column("causes", sa.Text(), nullable=True),
        sa.Column("phone_numbers", sa.Text(), nullable=True),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("secrets_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("failing_since_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_subscriptions")),
    )
    op.create_index("ix_webhook_subscriptions_instance_id", "webhook_subscriptions", ["instance_id"], unique=False)
    op.create_table(
        "group_members",
        sa.Column("group_number", sa.BigInteger(), nullable=False),
        sa.Column("device_token", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_number"], ["groups.id"], name=op.f("fk_group_members_group_number_groups"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("group_number", "device_token", name=op.f("pk_group_members")),
    )
    op.create_table(
        "sources",
        sa.Column("id", Number, autoincrement=True, nullable=False),
        sa.Column("instance_id", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("rank", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fallback_after_seconds", sa.Float(), nullable=True),
        sa.Column("vendor_online", sa.Boolean(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_sources_device_id_devices")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint(
            "instance_id", "connection_id", "external_id", name=op.f("uq_sources_instance_id_connection_id_external_id")
        ),
    )
    op.create_index("ix_sources_device_id", "sources", ["device_id"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("outbox_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_us", sa.BigInteger(), nullable=False),
        sa.Column("lease_us", sa.BigInteger(), nullable=True),
        sa.Column("claim_id", sa.Text(), nullable=True),
        sa.Column("first_ended", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("done_us", sa.BigInteger(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["subscription_id"],
            ["webhook_subscriptions.id"],
            name=op.f("fk_webhook_deliveries_subscription_id_webhook_subscriptions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index("ix_webhook_deliveries_done_us", "webhook_deliveries", ["done_us"], unique=False)
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["subscription_id", "next_us"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_webhook_deliveries_order",
        "webhook_deliveries",
        ["subscription_id", "order_key", "id"],
        unique=False,
        sqlite_where=sa.text("NOT first_ended"),
        postgresql_where=sa.text("NOT first_ended"),
    )
    op.create_index("ix_webhook_deliveries_outbox_id", "webhook_deliveries", ["outbox_id"], unique=False)
    op.create_index(
        "ix_webhook_deliveries_subscription_id_id", "webhook_deliveries", ["subscription_id", "id"], unique=False
    )
    op.create_table(
        "webhook_attempts",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["webhook_deliveries.id"],
            name=op.f("fk_webhook_attempts_delivery_id_webhook_deliveries"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_attempts")),
    )
    op.create_index("ix_webhook_attempts_delivery_id", "webhook_attempts", ["delivery_id"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE positions_default PARTITION OF positions DEFAULT")


def downgrade() -> None:
    op.drop_index("ix_webhook_attempts_delivery_id", table_name="webhook_attempts")
    op.drop_table("webhook_attempts")
    op.drop_index("ix_webhook_deliveries_subscription_id_id", table_name="webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_outbox_id", table_name="webhook_deliveries")
    op.drop_index(
        "ix_webhook_deliveries_order",
        table_name="webhook_deliveries",
        sqlite_where=sa.text("NOT first_ended"),
        postgresql_where=sa.text("NOT first_ended"),
    )
    op.drop_index(
        "ix_webhook_deliveries_due",
        table_name="webhook_deliveries",
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_index("ix_webhook_deliveries_done_us", table_name="webhook_deliveries")
    op.drop_table("webhook_deliveries")
    op.drop_index("ix_sources_device_id", table_name="sources")
    op.drop_table("sources")
    op.drop_table("group_members")
    op.drop_index("ix_webhook_subscriptions_instance_id", table_name="webhook_subscriptions")
    op.drop_table("webhook_subscriptions")
    op.drop_index("ix_trips_source_id_track_token", table_name="trips")
    op.drop_index("ix_trips_source_id_started_us", table_name="trips")
    op.drop_index(
        "ix_trips_open",
        table_name="trips",
        sqlite_where=sa.text("ended_us IS NULL"),
        postgresql_where=sa.text("ended_us IS NULL"),
    )
    op.drop_index("ix_trips_device_id_started_us", table_name="trips")
    op.drop_table("trips")
    op.drop_index("ix_stream_sessions_expires_us", table_name="stream_sessions")
    op.drop_table("stream_sessions")
    op.drop_index(
        "uq_sharing_periods_open_source",
        table_name="sharing_periods",
        sqlite_where=sa.text("kind = 'source' AND ended_us IS NULL"),
        postgresql_where=sa.text("kind = 'source' AND ended_us IS NULL"),
    )
    op.drop_index("ix_sharing_periods_source_id_began_us", table_name="sharing_periods")
    op.drop_index("ix_sharing_periods_session_id", table_name="sharing_periods")
    op.drop_index("ix_sharing_periods_device_id", table_name="sharing_periods")
    op.drop_table("sharing_periods")
    op.drop_index("ix_share_sessions_instance_id_created_us", table_name="share_sessions")
    op.drop_index(
        "ix_share_sessions_expiry",
        table_name="share_sessions",
        sqlite_where=sa.text("status = 'active'"),
        postgresql_where=sa.text("status = 'active'"),
    )
    op.drop_index(
        "ix_share_sessions_active",
        table_name="share_sessions",
        sqlite_where=sa.text("status = 'active'"),
        postgresql_where=sa.text("status = 'active'"),
    )
    op.drop_table("share_sessions")
    op.drop_table("session_views")
    op.drop_table("rate_limits")
    op.drop_table("positions")
    op.drop_index(
        "ix_outbox_waiting",
        table_name="outbox",
        sqlite_where=sa.text("NOT expanded"),
        postgresql_where=sa.text("NOT expanded"),
    )
    op.drop_index("ix_outbox_instance_id_created_us", table_name="outbox")
    op.drop_index("ix_outbox_device_id", table_name="outbox")
    op.drop_index("ix_outbox_created_us", table_name="outbox")
    op.drop_table("outbox")
    op.drop_table("nodes")
    op.drop_table("last")
    op.drop_table("keyed_state")
    op.drop_table("instances")
    op.drop_index("ix_idempotency_keys_created_us", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("groups")
    op.drop_index(
        "ix_devices_online", table_name="devices", sqlite_where=sa.text("online"), postgresql_where=sa.text("online")
    )
    op.drop_table("devices")
    op.drop_table("connections")
    op.drop_table("clients")
