"""From a data path to the images of a run, with what is known about each."""
