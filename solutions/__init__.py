"""GPT-2 in MAX, built in fourteen steps: every file holds one idea, and imports what the earlier ones wrote."""
