"""What HTTP costs: our server beside bare ones that stream the same bytes. `python -m benchmarks.http`."""
