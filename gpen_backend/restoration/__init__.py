"""The steps that restore one picture; start with `steps`."""
