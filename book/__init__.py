"""The book: its pages, and what includes code, hints, figures and measurements in them, so that none is ever copied."""
