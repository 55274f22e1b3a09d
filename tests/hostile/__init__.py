"""Hostile addresses for real: in a namespace of their own they answer, and every packet to one is counted."""
