"""What can be optimised: quadratics and classification."""
