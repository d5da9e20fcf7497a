"""One module per family of case kinds; each runs a case and names what differs."""
