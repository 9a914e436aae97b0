"""The experiment: photos as they come to GPEN against photos that were standardised first."""
