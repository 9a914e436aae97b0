"""GPEN's generator in torch, and the loader of its checkpoints."""
