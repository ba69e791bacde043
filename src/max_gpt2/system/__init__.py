"""What the machine has for this process."""
