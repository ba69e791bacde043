"""The figures of the book: each function takes a theme and returns a figure."""
