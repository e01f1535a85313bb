"""What a machine's operator needs around a run: checks, health, service, benchmarks."""
