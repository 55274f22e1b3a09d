"""Hostile addresses and clients for real: in a namespace where every address answers, and at a real gateway."""
