"""The forward pass of a decoder on the CPU: packed layers, phases shared by threads, attention, experts."""
