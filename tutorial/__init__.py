"""The course around `solutions/`: it makes the skeletons in `steps/`, checks what a learner writes, and helps along."""
