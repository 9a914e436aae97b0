"""The models of one server: which engine serves which name, and how it is loaded."""
