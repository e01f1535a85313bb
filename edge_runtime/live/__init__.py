"""A page that shows a run while it runs. It is served by a process of its own, so that viewers cannot slow the scorer.

bridge.py stands in the run's process: a sink that hands records on, and pictures while somebody looks. server.py is the
other process: board.py keeps what the page shows, answers.py gives it to viewers, access.py decides who may look,
feedback.py keeps what people say.
"""
