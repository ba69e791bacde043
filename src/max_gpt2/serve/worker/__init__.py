"""The model inside MAX's server; it never imports the frontend."""
