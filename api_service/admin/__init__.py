"""`notify-admin`: tenants, keys and people, by the owner of the database."""
