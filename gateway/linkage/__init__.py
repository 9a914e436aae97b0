"""Parameter linkage: what standardising did decides what GPEN is asked for."""
