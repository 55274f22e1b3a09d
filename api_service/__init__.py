"""HTTP in, a notification and its outbox row in one transaction out."""
