"""Service proxies: from Services and EndpointSlices to the tables of a node."""
