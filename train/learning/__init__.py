"""Settings, steps and loops that train the networks, and the state that a run resumes from."""
