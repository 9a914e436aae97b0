"""The backend's HTTP side: routes, bodies, errors, metrics."""
