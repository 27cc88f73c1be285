"""Runs: a training's settings, its folder, the training itself, and what is drawn and measured from it."""
