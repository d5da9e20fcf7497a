"""Other programs that do a part of our work, measured in the same run on the same frames and routes, if they are installed."""
