"""Learning to learn second-order back-propagation."""
