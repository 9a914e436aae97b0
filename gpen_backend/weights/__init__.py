"""The published checkpoints and the folder that stores them."""
