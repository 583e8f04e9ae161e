/* What drivers and kernels of means agree on beyond fc_quotient and fc_box. */
#ifndef FC_QUOTIENT_H
#define FC_QUOTIENT_H

/* Added to the shift of a quotient that may be one too small, which the remainder shows: of sums of 32 bits from
 * FC_BOX_PLAIN on, and of multipliers that leave a rest. */
enum { FC_MENDS = 1 << 8, FC_BOX_PLAIN = 1 << 21 };

#endif
