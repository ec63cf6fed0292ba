"""Stop conditions, and bytes that become whole characters."""
