"""Lines of text: read, checked, mixed and made noisy. Knows no model."""
