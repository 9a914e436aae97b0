"""JSON schemas of every answer."""
