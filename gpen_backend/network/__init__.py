"""GPEN's generator in torch, and reading its checkpoints."""
