"""Live writers: everything that is pushed to a client over a WebSocket or as server-sent events."""
