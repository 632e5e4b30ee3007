"""NetKet's side of `benchmarks.tools.netket`, run by a Python that has NetKet.

It imports nothing from pixelsr.

    python -I netket_worker.py WEIGHTS.npz SETTINGS

SETTINGS is JSON: layers, features, kernel_size, side, samples, threads. The worker writes its
weights and some conditional probabilities. It prints a first line when it has compiled; then, for
each line on stdin, it draws and prints the seconds that the draw took.
"""

import json
import os
import sys
import time


def main(path: str, settings: dict) -> None:
    # This must happen before jax counts the cores for its threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings["threads"]])
    import jax
    import jax.numpy as jnp
    import netket as nk
    import numpy as np

    hilbert = nk.hilbert.Spin(0.5, N=settings["side"] ** 2)
    network = nk.models.FastARNNConv2D(
        hilbert=hilbert,
        layers=settings["layers"],
        features=settings["features"],
        kernel_size=tuple(settings["kernel_size"]),
        param_dtype=jnp.float32,
    )
    sampler = nk.sampler.ARDirectSampler(hilbert)
    state = nk.vqs.MCState(sampler, network, n_samples=settings["samples"], seed=0)

    def draw():
        return jax.block_until_ready(state.sample())

    drawn = draw().reshape(-1, hilbert.size)
    conditionals = network.apply(state.variables, drawn, method=network.conditionals)
    arrays = {"spins": drawn, "conditionals": conditionals, "states": hilbert.local_states}
    for k in range(settings["layers"]):
        layer = state.parameters[f"_layers_{k}"]
        arrays |= {f"kernel_{k}": layer["kernel"], f"bias_{k}": layer["bias"]}
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    versions = {"netket": nk.__version__, "jax": jax.__version__, "dtype": str(drawn.dtype)}
    print(json.dumps(versions), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        draw()
        print(time.perf_counter() - start, flush=True)


main(sys.argv[1], json.loads(sys.argv[2]))
