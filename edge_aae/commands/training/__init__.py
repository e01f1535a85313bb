"""Commands that train a detector and look at what came of it."""
