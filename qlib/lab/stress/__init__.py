"""The stress run: many processes push the queue hard, then everything they saw is checked."""
