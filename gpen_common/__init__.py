"""What the gateway, its client and the backend share: types, geometry, threads, downloads."""
