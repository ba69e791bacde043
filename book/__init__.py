"""MkDocs macros and hooks for the book, which include code, hints, figures and measurements from their sources."""
