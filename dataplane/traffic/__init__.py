"""Generators and end-point applications: the flows that a ``kind: Traffic`` document describes, over the core."""
