"""The schema. Times are microseconds since 1970 UTC (`_us`), JSON is text, secrets are sealed bytes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes only "INTEGER PRIMARY KEY" an alias of the row's own number; PostgreSQL wants 64 bits.
Number = BigInteger().with_variant(Integer(), "sqlite")

instances = Table(
    "instances",
    metadata,
    Column("instance_id", Text, primary_key=True),
    Column("name", Text),
    Column("embed_origins", Text, nullable=False, server_default="[]"),
    Column("brand", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

clients = Table(
    "clients",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("instances", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

connections = Table(
    "connections",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("instance_id", Text, nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("origin", Text, nullable=False),  # toml | api
    Column("settings_sealed", LargeBinary),  # the whole settings, sealed and bound to this row; None for toml
    Column("state", Text, nullable=False, server_default="starting"),
    Column("since_us", BigInteger, nullable=False),
    Column("last_error", Text),
    Column("last_position_us", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False, server_default="1"),  # grows with each change: restarts it
    Column("owner_node", Text),
    Column("lease_until_us", BigInteger),
    UniqueConstraint("connection_id", "instance_id"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("node_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
)

keyed_state = Table(
    "keyed_state",
    metadata,
    Column("instance_id", Text, nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", Text),  # JSON
    Column("sealed", LargeBinary),  # JSON, sealed: keys that begin with "secret/"
    Column("updated_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("instance_id", "connection_id", "key"),
)

devices = Table(
    "devices",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("instance_id", Text, nullable=False),
    Column("device_token", Text, nullable=False),
    Column("display_field", Text, nullable=False, server_default="full_name"),
    Column("profile", Text),  # JSON object of the profile's fields
    Column("profile_updated_us", BigInteger),
    Column("handle", Text),
    Column("winner_source_id", BigInteger),
    Column("winner_since_us", BigInteger),
    Column("hold_seconds", Float, nullable=False, server_default="30"),
    Column("online", Boolean),
    Column("online_since_us", BigInteger),
    Column("stage", Text),
    Column("stage_at_us", BigInteger),
    Column("target", Text),  # JSON {latitude, longitude, label}
    Column("created_us", BigInteger, nullable=False),
    UniqueConstraint("instance_id", "device_token"),
    Index("ix_devices_online", "id", sqlite_where=text("online"), postgresql_where=text("online")),
    sqlite_autoincrement=True,  # outside, the number stands for the device: it is never given again
)

sources = Table(
    "sources",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("instance_id", Text, nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("device_id", BigInteger, ForeignKey("devices.id"), nullable=False),
    Column("rank", Integer, nullable=False, server_default="0"),
    Column("fallback_after_seconds", Float),
    Column("vendor_online", Boolean),
    Column("created_us", BigInteger, nullable=False),
    UniqueConstraint("instance_id", "connection_id", "external_id"),
    Index("ix_sources_device_id", "device_id"),
)


def _fix_columns() -> list[Column[object]]:
    return [
        Column("device_id", BigInteger, nullable=False),
        Column("received_us", BigInteger, nullable=False),
        Column("trip_id", BigInteger),
        Column("latitude", Float(53), nullable=False),
        Column("longitude", Float(53), nullable=False),
        Column("altitude", Float(53)),
        Column("accuracy", Float(53)),
        Column("speed", Float(53)),
        Column("heading", Float(53)),
        Column("flags", SmallInteger, nullable=False),  # 1 not live, 2 time suspect, 4 late
        Column("extra", Text),  # JSON {address, locality, battery, attributes}
    ]


# Clustered by time: a minute's rows of a source lie together, so a track is one short range a minute, and the
# past is cut off in one place. `recorded_us` is the time as sent; where it is suspect the fix counts from
# `received_us`.
positions = Table(
    "positions",
    metadata,
    Column("minute", Integer, nullable=False),
    Column("source_id", BigInteger, nullable=False),
    Column("recorded_us", BigInteger, nullable=False),
    *_fix_columns(),
    PrimaryKeyConstraint("minute", "source_id", "recorded_us"),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (minute)",
)

# The newest fix of a source: one row for what is live, one for what is only a milestone's coordinate.
last = Table(
    "last",
    metadata,
    Column("source_id", BigInteger, nullable=False),
    Column("milestone", SmallInteger, nullable=False),
    Column("recorded_us", BigInteger, nullable=False),  # when it counts from
    Column("sent_us", BigInteger, nullable=False),  # the time as sent
    *_fix_columns(),
    PrimaryKeyConstraint("source_id", "milestone"),
    sqlite_with_rowid=False,
)

trips = Table(
    "trips",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("device_id", BigInteger, nullable=False),
    Column("source_id", BigInteger, nullable=False),
    Column("track_token", Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Index("ix_trips_device_id_started_us", "device_id", "started_us"),
    Index("ix_trips_source_id_track_token", "source_id", "track_token"),
    Index("ix_trips_source_id_started_us", "source_id", "started_us"),
    Index(
        "ix_trips_open",
        "source_id",
        sqlite_where=text("ended_us IS NULL"),
        postgresql_where=text("ended_us IS NULL"),
    ),
)

sharing_periods = Table(
    "sharing_periods",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("sharing_id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),  # source | share
    Column("instance_id", Text, nullable=False),
    Column("device_id", BigInteger),
    Column("device_token", Text, nullable=False),
    Column("source_id", BigInteger),
    Column("session_id", Text),
    Column("connection_id", Text),
    Column("provider", Text),
    Column("shared_by", Text),
    Column("shared_with", Text),
    Column("chat_id", Text),
    Column("began_us", BigInteger, nullable=False),
    Column("ends_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("start_cause", Text, nullable=False),
    Column("stop_cause", Text),
    Index(
        "uq_sharing_periods_open_source",
        "source_id",
        unique=True,
        sqlite_where=text("kind = 'source' AND ended_us IS NULL"),
        postgresql_where=text("kind = 'source' AND ended_us IS NULL"),
    ),
    Index("ix_sharing_periods_source_id_began_us", "source_id", "began_us"),
    Index("ix_sharing_periods_session_id", "session_id"),
    Index("ix_sharing_periods_device_id", "device_id"),
)

share_sessions = Table(
    "share_sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("instance_id", Text, nullable=False),
    Column("device_token", Text, nullable=False),
    Column("device_id", BigInteger),  # None while the device is unknown
    Column("token_digest", LargeBinary, nullable=False, unique=True),
    Column("token_sealed", LargeBinary, nullable=False),
    Column("status", Text, nullable=False),  # active | completed | cancelled | expired
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("completed_us", BigInteger),
    Column("cancelled_us", BigInteger),
    Column("order_id", Text),
    Column("recipient_name", Text),
    Column("notes", Text),
    Column("track_token", Text),
    Column("destination", Text),  # JSON
    Column("share_config", Text, nullable=False),  # JSON
    Column("views", Integer, nullable=False, server_default="0"),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("created_by", Text),
    Index("ix_share_sessions_instance_id_created_us", "instance_id", "created_us"),
    Index(
        "ix_share_sessions_active",
        "instance_id",
        "device_token",
        "expires_us",
        sqlite_where=text("status = 'active'"),
        postgresql_where=text("status = 'active'"),
    ),
    Index(
        "ix_share_sessions_expiry",
        "expires_us",
        sqlite_where=text("status = 'active'"),
        postgresql_where=text("status = 'active'"),
    ),
)

session_views = Table(
    "session_views",
    metadata,
    Column("session_id", Text, nullable=False),
    Column("address_digest", LargeBinary, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("session_id", "address_digest"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("instance_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("instance_id", "key"),
    Index("ix_idempotency_keys_created_us", "created_us"),
)

groups = Table(
    "groups",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("instance_id", Text, nullable=False),
    Column("group_id", Text, nullable=False),
    Column("name", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    UniqueConstraint("instance_id", "group_id"),
    sqlite_autoincrement=True,  # as a device's
)

group_members = Table(
    "group_members",
    metadata,
    Column("group_number", BigInteger, ForeignKey("groups.id", ondelete="CASCADE"), nullable=False),
    Column("device_token", Text, nullable=False),
    PrimaryKeyConstraint("group_number", "device_token"),
)

stream_sessions = Table(
    "stream_sessions",
    metadata,
    Column("stream_id", Text, primary_key=True),
    Column("instance_id", Text, nullable=False),
    Column("token_digest", LargeBinary, nullable=False, unique=True),
    Column("spec", Text, nullable=False),  # JSON: device_tokens, groups, fields, min_interval_seconds, include_offline
    Column("state", Text),  # JSON: where the last connection stood (sequence number, what was sent)
    Column("holder", Text),  # the connection that holds the stream now
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Index("ix_stream_sessions_expires_us", "expires_us"),
)

rate_limits = Table(
    "rate_limits",
    metadata,
    Column("bucket", Text, primary_key=True),
    Column("arrival_us", BigInteger, nullable=False),  # GCRA's theoretical arrival time
)

subscriptions = Table(
    "webhook_subscriptions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("instance_id", Text, nullable=False),
    Column("target_url", Text, nullable=False),
    Column("subscribed_events", Text, nullable=False),  # JSON
    Column("device_tokens", Text),  # JSON or None
    Column("groups", Text),
    Column("causes", Text),
    Column("phone_numbers", Text),
    Column("is_active", Boolean, nullable=False),
    Column("disabled_reason", Text),
    Column("secrets_sealed", LargeBinary, nullable=False),  # JSON [{secret, until_us}], newest first
    Column("failing_since_us", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("ix_webhook_subscriptions_instance_id", "instance_id"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False, unique=True),
    Column("instance_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("device_id", BigInteger),
    Column("device_token", Text),
    Column("cause", Text),
    Column("data", Text, nullable=False),  # JSON
    Column("trace_id", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expanded", Boolean, nullable=False, server_default=text("false")),
    Index("ix_outbox_waiting", "id", sqlite_where=text("NOT expanded"), postgresql_where=text("NOT expanded")),
    Index("ix_outbox_instance_id_created_us", "instance_id", "created_us"),
    Index("ix_outbox_created_us", "created_us"),
    Index("ix_outbox_device_id", "device_id"),
)

deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("subscription_id", Text, ForeignKey("webhook_subscriptions.id", ondelete="CASCADE"), nullable=False),
    Column("outbox_id", BigInteger, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("order_key", Text, nullable=False),  # first attempts of one key go out one after the other
    Column("state", Text, nullable=False),  # pending | delivered | dead | dropped
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_us", BigInteger, nullable=False),
    Column("lease_us", BigInteger),
    Column("claim_id", Text),
    Column("first_ended", Boolean, nullable=False, server_default=text("false")),
    Column("created_us", BigInteger, nullable=False),
    Column("done_us", BigInteger),
    Column("last_status", Integer),
    Column("last_error", Text),
    Index(
        "ix_webhook_deliveries_due",
        "subscription_id",
        "next_us",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index(
        "ix_webhook_deliveries_order",
        "subscription_id",
        "order_key",
        "id",
        sqlite_where=text("NOT first_ended"),
        postgresql_where=text("NOT first_ended"),
    ),
    Index("ix_webhook_deliveries_subscription_id_id", "subscription_id", "id"),
    Index("ix_webhook_deliveries_outbox_id", "outbox_id"),
    Index("ix_webhook_deliveries_done_us", "done_us"),
)

attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("delivery_id", BigInteger, ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("status", Integer),
    Column("error", Text),
    Column("answer", Text),
    Index("ix_webhook_attempts_delivery_id", "delivery_id"),
)
