"""The tutorial: skeletons in `steps/` made from `solutions/`, checks for a learner's code, hints and diagnoses."""
