"""What two services must agree on: states, records, tables, and how a service reads settings, reports and stops."""
