"""Dead letters tracked in dlq_messages, and published again when they are due, or at rest for a person."""
