"""Parameter linkage: adapt GPEN's parameters to the result of standardising."""
