"""GPT-2 in MAX, built in fourteen steps: each file covers one idea and imports the earlier ones."""
