"""The API without a database."""
