"""What makes the things that are shipped or shown: checkpoints, the table of sizes."""
