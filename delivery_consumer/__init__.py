"""Records to providers: claim, send, write back, and only then commit the offset."""
