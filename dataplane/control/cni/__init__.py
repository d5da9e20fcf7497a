"""One file per CNI: the devices, addresses, routes and neighbours that it sets up on nodes and in pods."""
