"""The Triton kernels of pixelsr, each in one module with the function that launches it.

Importing this package imports nothing else; its modules need Triton.
"""
