"""The masked convolution over the live blocks of its taps."""
