"""The positions at which the noise of every engine is tested."""

SHAPES_AND_PLACES = [
    # samples, positions, levels, seed, first_index, first_position
    (1, 1, 1, 0, 0, 0),
    (2, 5, 2, 1, 0, 3),
    (1, 3, 256, 2**40 + 3, 0, 0),
    (2, 2, 5, 2**63 - 1, 2**32 - 1, 2**32 - 2),
    (3, 2, 7, -1, 2**33 + 1, 1),
]

EXTREMES = {
    # name: (first_index, position, level) under seed 0, and the noise there. "tightest" is u =
    # 0.36787945, nearest to 1/e. Of all 2^23 values of u, its noise lies closest to the midpoint
    # between two floats, where an imprecise logarithm shows first.
    "lowest u = 2^-24": ((3, 2814, 22), -2.8115409097662813),
    "highest u = 1 - 2^-24": ((11, 2321, 50), 16.635532303636364),
    "tightest u": ((6, 95, 222), 2.4871614e-08),
}
