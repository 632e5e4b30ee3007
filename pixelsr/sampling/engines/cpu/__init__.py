"""The engine in C++, for CPUs."""
