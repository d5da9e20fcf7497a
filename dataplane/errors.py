"""Errors that a user caused and can mend."""


class InputError(Exception):
    """Bad input: one line that names the file, line or packet and the remedy. Verbs end with exit code 2."""
