"""The command line: one file per verb, and what all verbs share."""
