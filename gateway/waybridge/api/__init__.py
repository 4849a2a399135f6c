"""HTTP: each subject has a file that is handed its parts and gives a list of operations; no rules live here."""
