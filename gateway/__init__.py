"""An async HTTP gateway that standardises portraits before GPEN restores them."""

__version__ = "0.1.0"
