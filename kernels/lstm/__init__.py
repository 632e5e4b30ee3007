"""The recurrences of PixelRNN, computed wavefront by wavefront."""
