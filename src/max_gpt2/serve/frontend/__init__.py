"""The HTTP API in front of MAX's server: checks requests, limits load, and turns token ids into responses."""
