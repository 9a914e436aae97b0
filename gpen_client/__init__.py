"""An async client of GPEN backends that speak the Open Inference Protocol v2."""
