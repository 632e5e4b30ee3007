"""Triton kernels of pixelsr, each beside the function that launches it.

Importing this package imports nothing; a module of it needs Triton.
"""
