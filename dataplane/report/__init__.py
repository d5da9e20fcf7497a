"""What is in a cluster and what became of its traffic, as tables, JSON, YAML or names."""
