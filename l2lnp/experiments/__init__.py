"""Experiments: jobs (trainings without a run folder), tuning, paired comparisons and their pages."""
