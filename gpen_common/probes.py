"""The paths that monitors poll every few seconds."""

PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""Health checks and metrics of gateway and backend: neither traced nor logged while they succeed."""
