"""Scoring: predictions, one confusion matrix over a whole set, and files for a test server."""
