"""What the edges of both doors share: who calls, how much they may, and what is written of it."""
