"""The experiment: photos restored as they are, compared with photos that were standardised first."""
