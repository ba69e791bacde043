"""The front of the server: what stands between the clients and MAX's own server, and keeps that alive."""
