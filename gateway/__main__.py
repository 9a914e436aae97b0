"""`python -m gateway` is `gpen-gateway`."""

from gateway.cli import main

main(prog_name="gpen-gateway")
