"""Load test for servers with OpenAI's completions API."""
