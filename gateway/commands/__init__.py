"""The commands of the console command `gpen-gateway`."""
