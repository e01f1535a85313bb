"""Figures of a detector on labelled images, of pixels too, as tables and plots."""
