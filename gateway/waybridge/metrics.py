"""What the gateway counts for Prometheus, in one registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

POSITIONS = Counter(
    "waybridge_positions", "Positions by what became of them", ["provider", "outcome"], registry=REGISTRY
)
GROUP_SIZE = Histogram(
    "waybridge_intake_group_positions",
    "Positions that shared one commit",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
    registry=REGISTRY,
)
COMMIT_SECONDS = Histogram(
    "waybridge_intake_commit_seconds",
    "Time from taking a group to its commit",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
    registry=REGISTRY,
)
DEVICES = Gauge("waybridge_devices", "Devices known to this node", registry=REGISTRY)
CONNECTION_STATE = Gauge(
    "waybridge_connection_state",
    "1 for the state that a connection is in",
    ["instance_id", "connection_id", "state"],
    registry=REGISTRY,
)
CONNECTION_EVENTS = Counter(
    "waybridge_connection_events",
    "What connections count: reconnects, streams opened anew, unknown events, skipped rows",
    ["instance_id", "connection_id", "event"],
    registry=REGISTRY,
)
POSITION_DELAY = Gauge(
    "waybridge_position_delay_seconds",
    "Median of received minus recorded over a stream's last positions; a wrong clock shows here",
    ["instance_id", "connection_id"],
    registry=REGISTRY,
)
VIEWERS = Gauge("waybridge_live_connections", "Open live connections by kind", ["kind"], registry=REGISTRY)
CONFLATED = Counter(
    "waybridge_live_conflated", "Frames that a slow reader did not get because a newer one took their place", ["kind"],
    registry=REGISTRY,
)  # fmt: skip
STREAM_CUT = Counter("waybridge_live_cut", "Connections cut because they stopped reading", ["kind"], registry=REGISTRY)
