"""The OpenAPI document: operations, components and examples."""
