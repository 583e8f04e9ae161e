"""What transforms lose to rounding, at most: constants that are proven, where others are measured.

The published bounds of `fft` and `overlap_save` have a constant of 1 that no data were seen to
pass. A method that has to know, because it rounds to integers or claims digits of small numbers,
takes these. u = 2^-53, and all is to first order in it.
"""

from __future__ import annotations

UNIT = 2.0**-53


def transform(samples: int) -> float:
    """E: a transform of n samples has an error of at most E u of its result, both in the 2-norm.

    Each addition errs by u. A product with a factor errs by (sqrt 5 + 1) u, the factor's own
    rounding included (Brent, Percival and Zimmermann 2007): 4.3 for a level of radix 2, and radix 4
    is two levels. Butterflies of 3 round a sum of products 4 times, relative to 1.37 times what
    passes through, and those of 5 6 times, to 1.4; in the 2-norm sqrt 3 and sqrt 5 times that are
    left (Cauchy and Schwarz): 13 and 22 with their factors. Factors between rows and columns, which
    are products themselves, take 6.5.

    The same holds for what the 1-norm of the input makes of each output: |error| <= E u sum|z|.
    """
    found, rest = 6.5, samples
    for radix, each in ((2, 4.3), (3, 13.0), (5, 22.0)):
        while rest % radix == 0:
            rest //= radix
            found += each
    if rest > 1:
        raise ValueError(f"expected a product of 2, 3 and 5, got {samples}")
    return found


def convolution(samples: int, terms: int = 1) -> float:
    """c: the error of an output is at most c |x| |w|, 2-norms, summed over `terms` such products.

    Spectra X and W err by E u each and their product by (sqrt 5) u, and sum|X W| <= n |x| |w|
    (Cauchy and Schwarz, Parseval); the inverse errs by E u of that, and the sum by u a term. A
    transform of real data is one of complex data that leaves out what it knows.
    """
    return (3 * transform(samples) + 3 + terms) * UNIT
