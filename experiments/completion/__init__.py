"""The experiment `completion`: hidden parts of digits and faces are drawn and scored.

A prior draws an image value by value, each conditioned on the values before it. Known values are
not drawn but read, so one model completes whatever is hidden. A prior of digits and a prior of
faces are trained; a model that was trained before completes faces too.
"""

from .experiment import run as run
