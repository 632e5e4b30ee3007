"""Sources of images, and their conversion to tensors and files."""

from pixelsr.utils.system import watch_forks

watch_forks()
