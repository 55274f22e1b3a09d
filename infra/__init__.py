"""Everything around the services: the local stack, and the configuration of what they run on."""
