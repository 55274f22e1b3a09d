"""The peers' own programs: processes in the peers' environment that import nothing of ours but the peers' settings."""
