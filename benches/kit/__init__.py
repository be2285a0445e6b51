"""What the benchmarks share: building and finding programs, the counting server, the clients, the trees, and taking the time."""
