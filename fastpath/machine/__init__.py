"""The machine: instruction sets, threads, memory in huge pages, and what a processor can do at most."""
