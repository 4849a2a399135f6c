"""What is counted of webhooks."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from waybridge.metrics import REGISTRY

ATTEMPTS = Counter(
    "waybridge_webhook_attempts", "Attempts to deliver, by how they ended", ["outcome"], registry=REGISTRY
)
ATTEMPT_SECONDS = Histogram(
    "waybridge_webhook_attempt_seconds",
    "How long attempts took",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
    registry=REGISTRY,
)
FIRST_ATTEMPT_SECONDS = Histogram(
    "waybridge_webhook_first_attempt_delay_seconds",
    "Time from an event's commit to the beginning of its first attempt",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5, 30, 300, 3600),
    registry=REGISTRY,
)
WAITING = Gauge("waybridge_webhook_waiting", "Deliveries and unexpanded events that wait", registry=REGISTRY)
OLDEST_SECONDS = Gauge("waybridge_webhook_oldest_seconds", "Age of the oldest that waits", registry=REGISTRY)
RUNNING = Gauge("waybridge_webhook_running", "Attempts of this node that run now", registry=REGISTRY)
OPEN_BREAKERS = Gauge(
    "waybridge_webhook_open_breakers", "Targets that this node leaves alone for a while", registry=REGISTRY
)
