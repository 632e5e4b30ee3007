"""The recurrences of PixelRNN, wavefront by wavefront."""
