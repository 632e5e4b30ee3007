"""Files, processes, signals and modules: helpers that know nothing of images."""
