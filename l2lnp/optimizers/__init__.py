"""The learned and hand-designed optimizers."""
