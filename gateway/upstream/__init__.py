"""The gateway's side of the GPEN backend: models, requests, and the embedded backend."""
