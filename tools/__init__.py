"""Scripts that generate checkpoints, figures, the notebook and pages of measurements."""
