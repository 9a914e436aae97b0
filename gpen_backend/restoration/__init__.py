"""The steps that restore one picture."""
