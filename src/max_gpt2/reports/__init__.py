"""How the command line shows its results: as tables for people, as one JSON object for programs."""
