"""Case files: found, run and compared."""
