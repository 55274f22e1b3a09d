"""Programs that run a real service with one part exchanged, so that a comparison differs in that part alone.

They are the only modules of loadtest that import a service. Each runs as a process of its own.
"""
