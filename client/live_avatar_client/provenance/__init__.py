"""Where a saved video says that a machine made it: a C2PA manifest, signed and verified."""
