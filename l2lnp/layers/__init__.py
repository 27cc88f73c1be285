"""Layers, losses and their five passes."""
