"""Starts, supervises and stops the server and its worker process."""
