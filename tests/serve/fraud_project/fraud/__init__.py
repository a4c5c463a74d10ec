"""Features of payments."""
