"""Text to ids and back. One module says what a vocabulary is, one reads it, and each kind has its own."""
