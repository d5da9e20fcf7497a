"""The flow cache against the slow path alone: the same world and script give the same frames, tables, counters and reasons."""
