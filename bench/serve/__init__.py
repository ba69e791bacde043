"""Load for servers that speak OpenAI's completions, and what they make of it."""
