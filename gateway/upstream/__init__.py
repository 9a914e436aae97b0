"""The GPEN backend as the gateway uses it."""
