"""The models of one server: which engine runs each model, and how it is loaded."""
