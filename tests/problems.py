"""Problems that every solver is tried on, data for them, and what a right answer is.

Every bug fix adds the string of the problem that showed it to `FIXED`.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import reference

from fastconv._ext import core
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Solver
from fastconv.solvers import SOLVERS
from fastconv.solvers.amx_gradient import AmxGradient
from fastconv.solvers.amx_int8 import AmxInt8
from fastconv.solvers.amx_split import AmxSplit
from fastconv.solvers.amx_winograd import AmxWinograd

Array = npt.NDArray[Any]

#: The shapes each family of algorithms is for, and the edges of its blocks and tiles.
NETWORKS = (
    # tiles of 16 filters, 16 pixels and 32 channels: one, two, one more; slices and blocks of them
    "conv2d f32 n1 c32 h4 w4 k16 r1 s1",
    "conv2d f32 n1 c33 h6 w5 k17 r3 s3 p1",
    "conv2d f32 n1 c64 h7 w7 k33 r3 s3 p1 u2",
    "conv2d f32 n1 c66 h4 w5 k32 r3 s3 g2 p1:0,0:2 threads3",
    "conv2d f32 n1 c300 h3 w7 k20 r1 s1 strict",
    "conv2d f32 n1 c290 h2 w3 k16 r3 s3 p1 strict",
    "conv2d f32 n1 c40 h9 w8 k5 r2 s3 p2 u3,2 l2,3",
    "conv1d f32 n1 c35 w100 k20 s5 p2 threads2",
    "conv3d f32 n1 c34 d3 h4 w5 k18 t3 r3 s2 p1 u2,1,1",
    "conv2d f32 n1 c64 h14 w14 k32 r3 s3 p1",
    "conv2d f32 n1 c128 h7 w7 k40 r3 s3 p1",
    "conv2d f64 n2 c33 h7 w7 k17 r3 s3 p1",
    "conv2d f32 n1 c640 h2 w3 k24 r1 s1",  # more channels than SUM_BLOCK taps
    "conv2d f32 n1 c70 h5 w5 k20 r3 s3 p1",  # 630 taps: a block and a part of one
    "conv2d f32 n2 c3 h31 w33 k8 r3 s3 p1 u2",
    "conv2d f32 n1 c3 h23 w40 k16 r7 s7 p3 u2",
    "conv2d f32 n1 c16 h17 w19 k24 r1 s1",
    "conv2d f32 n2 c28 h13 w17 k100 r1 s1 g2",  # read in place, asked for in time
    "conv2d f64 n1 c200 h9 w11 k30 r1 s1",
    "conv2d f32 n1 c3 h93 w90 k40 r1 s1",  # channels too far apart for that
    "conv2d f32 n1 c3 h93 w90 k9 r1 s1",  # and few filters
    "conv1d f32 n1 c2 w300 k2 s90 g2 p70 u90",  # phases of a stride beyond 64
    "conv2d f32 n2 c16 h15 w15 k8 r1 s1 u2",
    "conv2d f32 n2 c32 h16 w17 k16 r3 s3 p1 prepared threads2",
    "conv2d f32 n2 c8 h12 w13 k16 r3 s3 p1 N*C",
    "conv2d f64 n1 c8 h12 w13 k16 r3 s3 p1 N*C",
    "conv2d f32 n2 c8 h12 w13 k16 r3 s3 p1 strided",
    "conv2d f32 n1 c12 h9 w11 k18 r3 s3 g3 p1",
    "conv2d f32 n2 c24 h14 w15 k24 r3 s3 g24 p1",  # depthwise
    "conv2d f32 n1 c6 h14 w15 k18 r5 s5 g6 p2 u2",  # depthwise, multiplied
    "conv2d f32 n1 c4 h20 w21 k6 r3 s3 p2 l2",
    "conv2d f32 n1 c4 h20 w21 k6 r3 s3 p6,3 l6,3",
    "conv2d f32 n1 c5 h7 w6 k4 r4 s4 p2:1,1:2 e2 flip",  # transposed
    "conv2d f32 n1 c5 h7 w6 k4 r3 s3 p1:2 e3 flip",
    "conv2d f32 n1 c4 h9 w9 k4 r3 s3 p2 u3 l2 e2",
    "conv2d f64 n1 c4 h10 w9 k4 r3 s3 p2 u2 l3 e4",
    "conv3d f32 n1 c3 d5 h6 w7 k4 t3 r3 s3 p1",
    "conv3d f64 n2 c4 d6 h5 w9 k6 t2 r3 s1 g2 p1,0,2 u2,1,1",
    "conv1d f32 n2 c8 w100 k9 s5 p4",
    "conv1d f32 n3 c16 w64 k16 s3 p1",
    "conv1d f32 n1 c24 w50 k24 s4 g24 p3:0",  # causal depthwise
    # ends of depthwise signals one by one: multiplied, dilated, at the right alone, an empty window
    "conv1d f32 n2 c3 w300 k6 s4 g3 p3",
    "conv1d f64 n1 c2 w200 k2 s3 g2 p5:1 l2",
    "conv1d f32 n1 c2 w260 k2 s2 g2 p0:3 threads2",
    # depthwise tiles: blocks of 2 + 2 rows; 3 + 2 and 4 + 4 vectors, and tiles between
    "conv2d f32 n1 c2 h7 w40 k2 r3 s3 g2 p1",
    "conv2d f32 n1 c2 h4 w97 k2 r3 s3 g2 p1",
    "conv2d f32 n1 c2 h15 w129 k2 r3 s3 g2 p1 u2",
    "conv2d f64 n1 c2 h9 w67 k2 r3 s3 g2 p1 u2",
    # depthwise copied amid zeros: narrow, odd padding and stride 2, mostly padding
    "conv2d f32 n2 c3 h7 w7 k3 r5 s5 g3 p2",
    "conv2d f32 n1 c3 h14 w15 k6 r5 s5 g3 p1:3,3:1 u2",
    "conv2d f64 n1 c2 h10 w33 k2 r7 s7 g2 p3",
    "conv2d f32 n1 c2 h3 w2 k2 r4 s4 g2 p9 threads2",
    "conv1d f32 n1 c3 w41 k5 s4 p3 u3 l2",
    # two depthwise channels in a vector: odd numbers, multiplied, strided, narrower vectors, units
    "conv2d f32 n2 c5 h7 w7 k10 r3 s3 g5 p1 threads2",
    "conv2d f32 n1 c4 h14 w14 k4 r5 s5 g4 p2 u2",
    "conv2d f32 n1 c3 h13 w12 k6 r3 s3 g3 p1:0,2:1 u2",
    "conv2d f32 n1 c4 h5 w3 k8 r3 s3 g4 p1",
    "conv2d f64 n2 c3 h4 w1 k3 r3 s3 g3 p2,1 l2,1",
    "conv3d f32 n1 c5 d5 h3 w2 k5 t3 r3 s1 g5 p1,1,0",
    # tiles of depthwise pictures: up to 14 rows, 7 rows of weights at a time
    "conv2d f32 n1 c2 h29 w18 k2 r7 s5 g2 p3,2",
    "conv2d f64 n1 c2 h13 w21 k2 r9 s7 g2 p4,3",
    "conv2d f32 n1 c1 h12 w35 k2 r6 s6 p3,2:3",
    "conv2d f32 n1 c2 h11 w20 k2 r13 s5 g2 p6:5,3",
    # depthwise rows taken apart: phases and rows that no tap lies on, two channels in a vector,
    # integers, planes of a volume, more phases than bits
    "conv2d f32 n1 c2 h23 w70 k2 r3 s3 g2 p1 u3",
    "conv2d f32 n1 c2 h22 w141 k4 r7 s7 g2 p6:5 u4 l2",
    "conv2d f64 n1 c2 h19 w37 k2 r3 s3 g2 p1:2 u4",
    "conv2d f32 n1 c5 h13 w19 k5 r4 s4 g5 p0,1 u4 threads2",
    "conv2d f64 n1 c2 h14 w33 k2 r5 s1 g2 p2,1 u2,3",
    "conv2d f32 n2 c2 h20 w40 k2 r5 s5 g2 p4 u2 l2",
    "conv2d i32 n1 c2 h13 w59 k2 r3 s3 g2 p1 u3",
    "conv3d f32 n1 c2 d4 h9 w21 k2 t2 r3 s3 g2 p1 u1,3,4",
    "conv2d f32 n1 c1 h140 w9 k1 r2 s2 u70,2",
    # depthwise phases woven: taps of either parity first, one tap, rows of 4 + 4 and 3, narrow,
    # halved and overlapping vectors, cropped, bands, phases of rows without a tap
    "conv2d f32 n2 c3 h7 w7 k3 r3 s3 g3 p1:2 e2 flip",
    "conv2d f32 n1 c3 h5 w13 k6 r5 s5 g3 p2:3,2 e2",
    "conv2d f64 n1 c2 h9 w11 k2 r7 s7 g2 p4:3,3:4 e2 flip",
    "conv2d f32 n1 c2 h6 w19 k2 r1 s1 g2 p0:1,0 e2",
    "conv2d f32 n1 c2 h3 w3 k2 r4 s4 g2 p2:1 e2 threads2",
    "conv2d f32 n1 c2 h120 w70 k2 r3 s2 g2 p1 e1,2 prepared",
    "conv2d f64 n1 c2 h4 w2 k2 r2 s9 g2 p0,5 e5,2 N*C",
    "conv2d f32 n2 c2 h5 w6 k2 r4 s3 g2 p1,0:3 e3,2 strided",
    "conv1d f32 n1 c3 w21 k3 s16 g3 p15:14 e2 flip",
    # dot of 3 x 3 outputs of rows that a vector holds: as wide, less padding, more, none, an axis
    "conv2d f32 n2 c3 h7 w7 k3 r7 s7 g3 p1",
    "conv2d f64 n1 c2 h4 w3 k4 r4 s3 g2 p1",
    "conv2d f32 n1 c4 h2 w3 k6 r6 s7 g2 p3,2:4",
    "conv2d f32 n1 c2 h10 w9 k2 r8 s7 g2",
    "conv3d f32 n1 c3 d4 h7 w7 k3 t4 r7 s7 g3 p0,1,1",
    # volumes whose planes are taps of a tile: all of them, some, none; strides and dilation
    "conv3d f32 n1 c2 d5 h12 w9 k4 t3 r3 s3 g2 p1",
    "conv3d f64 n2 c2 d4 h5 w7 k2 t2 r3 s4 g2 p5:3,1,2 u2,1,2 threads2",
    "conv3d f32 n1 c2 d6 h11 w10 k2 t3 r2 s3 g2 p3,0,1 u1,2,1 l3,1,2",
    # one or two axes of kernels of 2 to 5 transformed, the others summed
    "conv2d f32 n2 c3 h9 w14 k9 r2 s2 p1:0,0:1",
    "conv2d f64 n1 c2 h6 w7 k5 r4 s4 p1 e2 flip",
    "conv2d f32 n1 c70 h5 w30 k7 r2 s3 p1 constant=0.5",
    "conv1d f32 n2 c5 w90 k9 s3 p20 l20",
    "conv1d f64 n3 c2 w21 k7 s5 p2 prepared threads2",
    "conv2d f32 n1 c3 h9 w40 k5 r3 s1 p1,0",
    "conv2d f32 n2 c3 h13 w20 k7 r4 s4 p1",
    # strided axes: phases of 2 to 5 taps, full or one short, along one axis or both
    "conv2d f32 n1 c20 h29 w30 k13 r3 s3 p0:1 u2",
    "conv2d f64 n2 c4 h12 w13 k9 r4 s4 p1:2,0 u2,1 wrap",
    "conv2d f64 n2 c4 h22 w33 k10 r11 s11 g2 p1:2,0 u4 reflect",
    "conv2d f32 n1 c3 h20 w50 k9 r7 s3 p2 u3,2 constant=2.5",
    "conv2d f32 n1 c3 h20 w50 k9 r5 s2 p2,0 u2,5",  # a stride larger than the kernel
    "conv2d f32 n1 c3 h24 w70 k7 r3 s1 p2,0 u2,1",  # rows alone
    "conv2d f32 n1 c3 h21 w50 k5 r8 s3 p3,2 u2,1 l1,3",
    "conv2d f32 n3 c2 h10 w19 k5 r5 s9 p9,12 u2 strided",  # whole tiles beyond the ends
    "conv2d f32 n2 c5 h17 w18 k12 r6 s10 p2 u2 N*C threads2",
    "conv2d f32 n1 c33 h9 w9 k6 r3 s3 p1 u2 prepared threads3",
    "conv1d f32 n3 c3 w101 k9 s9 p4 u3",
    "conv1d f64 n1 c2 w151 k3 s31 p30 u8 flip",
    "conv2d f64 n1 c4 h10 w9 k4 r9 s9 p2 u4 l3 e6",  # phases of the output, strided and dilated
    "conv3d f32 n2 c3 d9 h12 w21 k9 t3 r4 s5 p1 u2 nearest",
    # sections of more taps than a transform has, alone and with strides
    "conv2d f32 n1 c3 h41 w40 k7 r7 s7 p3",
    "conv2d f64 n1 c3 h41 w40 k7 r6 s16 p3 u1,2 reflect",
    "conv2d f64 n1 c1 h41 w60 k7 r13 s32 p3 u3,1",
    "conv2d f32 n1 c2 h25 w50 k7 r10 s17 p3 u3,2 nearest",
    "conv2d f32 n2 c2 h25 w50 k7 r7 s1 p3,0 flip",
    "conv1d f32 n2 c3 w90 k7 s31 p3 l2",
    "conv3d f32 n2 c2 d9 h9 w19 k7 t3 r7 s8 p3 u1,2,3",
    *(f"conv2d f32 n1 c2 h7 w{w} k3 r3 s3 p1 u2" for w in (15, 16, 17, 18, 31, 33, 63, 66)),
    *(f"conv2d f32 n1 c2 h9 w{w} k3 r7 s7 p3 u2" for w in (6, 47, 48, 49, 95, 97)),
    "conv2d f32 n1 c3 h9 w40 k5 r1 s5 p0,2",
    "conv2d f32 n2 c3 h11 w13 k5 r5 s5 p2",
    "conv2d f64 n3 c2 h7 w7 k9 r3 s3 p1",  # a vector holds tiles of several images
    # Winograd's blocks of 16 or 48 tiles and one more, and shared by threads
    "conv2d f32 n1 c5 h16 w17 k7 r3 s3 p1",
    "conv2d f32 n1 c5 h28 w28 k7 r3 s3 p1",
    "conv2d f32 n2 c40 h23 w37 k20 r3 s3 p0:1,1:0 threads3",
    "conv1d f64 n3 c37 w92 k8 s3 p1",
    "conv2d f32 n1 c300 h9 w37 k7 r3 s3 p1",  # u of a vector has no room in L2
    "conv2d f32 n1 c40 h8 w9 k26 r3 s7 p1,3 u1,2",
    "conv2d f32 n1 c2 h19 w23 k3 r3 s3 p5 l5 nearest",
    # tiles of a phase side by side, of which the last phase may have fewer; phases as lanes
    "conv2d f32 n1 c3 h17 w33 k5 r3 s3 p2 l2 threads2",
    "conv2d f64 n2 c2 h18 w25 k4 r3 s4 g2 p3 l3",
    "conv2d f32 n1 c2 h12 w41 k3 r5 s3 p2,3 l1,3 reflect",
    "conv2d f32 n1 c2 h9 w90 k3 r2 s5 p0,14:9 l1,7",
    "conv2d f32 n1 c2 h13 w29 k3 r3 s3 p2 l2 N*C",
    "conv2d f32 n1 c3 h20 w30 k3 r3 s3 p12 l12",
    "conv1d f32 n2 c3 w133 k5 s3 p4 l4 constant=1.5",
    # tiles of 3 outputs: whole, cut, of phases side by side, one line
    "conv2d f32 n3 c37 h6 w9 k20 r3 s3 p1 threads2",
    "conv2d f64 n2 c3 h5 w11 k7 r3 s3 p1,2 l1,2 reflect",
    "conv1d f32 n2 c5 w9 k4 s3 p1",
    "conv2d f32 n1 c4 h12 w50 k3 r3 s5 p1:2,2 wrap",
    "conv3d f32 n2 c2 d5 h6 w7 k4 t3 r3 s3 g2 p1 u2,1,1",
    "conv3d f64 n1 c3 d4 h5 w12 k4 t5 r3 s2 p1 l1,2,1 reflect",
    # tiles of pixels along rows, across their ends, across images; one and two vectors of filters
    "conv2d f32 n3 c5 h7 w7 k48 r3 s3 p1",
    "conv2d f32 n1 c3 h5 w43 k33 r3 s5 p1,2 u1,2",
    "conv2d f32 n1 c4 h9 w31 k16 r3 s3 p4 u5",
    "conv2d f32 n29 c4 h6 w6 k20 r3 s3 p1",
    "conv2d f32 n17 c2 h28 w28 k40 r28 s28 p1 strided",  # the gradient of weights
    "conv2d f32 n9 c3 h7 w8 k17 r4 s4 p1:0,1 l2 strided threads2",  # the same, with stride 2
    "conv2d f64 n9 c3 h11 w12 k17 r9 s10 p2,0 u2,1",
    "conv2d c64 n8 c3 h5 w4 k9 r3 s3 p1",
    # and of weights of groups: tiles of outputs, blocks of the kernel, runs of rows, phases, images
    "conv2d f32 n1 c3 h20 w20 k3 r20 s20 g3 p1",
    "conv2d f32 n1 c2 h70 w90 k2 r68 s88 g2 p1",
    "conv2d f64 n2 c4 h23 w22 k6 r11 s10 g2 p1:0,2:1 l2",
    "conv2d f32 n1 c2 h40 w33 k2 r17 s10 g2 p1:4,0:2 u3,2 l2,3",
    "conv3d f32 n2 c2 d3 h9 w17 k4 t3 r9 s17 g2 p0,2,3",
    "conv3d f32 n1 c2 d4 h6 w10 k2 t3 r6 s9 g2 p1,1,1:0",
    "conv1d f32 n1 c2 w1200 k2 s1195 p2:0",
    # volumes: planes of a band, several bands, and more planes than are copied together
    "conv3d f32 n1 c2 d24 h40 w61 k2 t3 r3 s3 g2 p1",
    "conv3d f64 n2 c3 d7 h12 w20 k6 t3 r3 s3 g3 p2,1,1 u1,2,2 l2,1,1",
    "conv3d f32 n1 c1 d90 h9 w120 k1 t3 r2 s3 p1",
    "conv3d f32 n1 c2 d1 h3 w9 k2 t1 r1 s1 g2 p1:0,0,0 u2,1,2",  # one plane, beyond the first
    "conv2d f32 n1 c20 h9 w31 k40 r3 s3 p1 u2 N*C",
    "conv2d f32 n2 c30 h6 w15 k36 r1 s1 N*C",
    "conv2d f32 n1 c18 h5 w41 k20 r1 s1 u1,2",  # copied two by two
    "conv2d f64 n2 c19 h3 w29 k10 r1 s1 u1,2",
    "conv2d f32 n1 c18 h5 w41 k20 r1 s1 u1,3",
    # taps that are all padding for some tiles, for all, and few enough to be multiplied
    "conv2d f32 n1 c40 h19 w33 k20 r3 s3 p12 l12",
    "conv2d f64 n1 c18 h9 w29 k9 r3 s3 p7,12 l7,12 strided",
    "conv2d f32 n2 c20 h5 w6 k17 r3 s5 p9,20 l9,10",  # dilation larger than the image
    "conv2d f32 n1 c2 h7 w50 k8 r3 s3 p30 l30,15",
    "conv2d f32 n1 c36 h7 w20 k8 r3 s3 p9 l9 constant=1.5",
    "conv2d c64 n1 c20 h6 w20 k5 r3 s3 p8 l8",
    "conv2d f32 n12 c18 h5 w6 k9 r3 s3 p5 l5",
    # as many phases as taps: one, two and three filters a vector, ends of rows with fewer phases
    "conv2d f32 n1 c20 h7 w9 k12 r2 s2 p1 e2 flip",
    "conv2d f32 n2 c9 h7 w9 k5 r2 s2 p0:2,1:0 e2 flip",
    "conv2d f32 n1 c10 h7 w9 k10 r2 s2 g2 p1:2,0:1 e2",
    "conv2d f64 n1 c7 h5 w8 k7 r3 s3 p2:4,1:3 e3",
    "conv2d f32 n1 c7 h5 w8 k6 r2 s3 p3,6 e2,3",  # more padding than phases
    "conv2d f32 n1 c6 h9 w11 k5 r3 s2 p1 e1,2 flip",  # an axis that is convolved
    "conv2d f32 n1 c6 h5 w11 k5 r2 s3 p1,2 l1,2 e2,1",
    "conv1d f32 n2 c8 w13 k20 s4 p3 e4 N*C",
    "conv3d f32 n1 c3 d3 h4 w5 k5 t2 r2 s2 p1:2,1,1:3 e2 flip",
    "conv2d c64 n1 c3 h5 w4 k3 r2 s2 p1 e2 flip",
    # panels' phases: rows longer than a tile and shorter, a lead, blocks of channels, no tap
    "conv2d f32 n2 c5 h3 w53 k7 r3 s3 p1:2 e2 flip",
    "conv2d f32 n2 c130 h5 w6 k8 r3 s3 g2 p1:2,2 e2 flip",
    "conv2d f64 n1 c3 h4 w29 k3 r4 s4 p2,1 e2 flip",
    "conv2d f32 n1 c4 h5 w18 k5 r5 s4 p4,2:3 l1,2 e3,2 flip",
    "conv1d f32 n2 c9 w31 k7 s9 p4:6 e4 flip",
    "conv1d f64 n1 c5 w29 k9 s11 p4:2 e8 flip",
    "conv2d f32 n1 c3 h3 w19 k9 r2 s9 p1,6 e2,8 flip",
    "conv1d f32 n1 c190 w20 k9 s9 p4 e4",
    "conv3d f32 n1 c3 d3 h4 w9 k2 t3 r3 s3 p1:2 e2 flip",
    # panels' bands: rows that are joined, whole and strided in y; blocks along a row; phases down
    "conv2d f32 n2 c3 h15 w200 k13 r4 s4 u4",
    "conv2d f64 n1 c2 h11 w152 k5 r2 s2 p0,1 u3 strided",
    "conv2d f32 n1 c2 h7 w210 k7 r3 s2 p1:2,0:3 u2,4 l2,1",
    "conv1d f32 n2 c1 w1003 k9 s15 p4:2 u5",
    "conv1d f64 n1 c4 w260 k8 s3 g2 p3 l2",
    # panels' picked pixels: four taps at a time, at edges and beside rows of padding, and singly
    "conv2d f32 n1 c3 h30 w83 k5 r5 s7 p2 u4",
    "conv2d f32 n2 c2 h26 w66 k9 r4 s4 p1 u2",
    "conv2d f64 n1 c3 h21 w40 k5 r2 s3 p1 u5",
    # col2im: rows in place, joined and apart, that end with a part of a vector; zeros between rows,
    # and planes; blocks of channels, filters and positions; phases of no taps, of three; cropped
    # and far padded outputs
    "conv2d f32 n2 c5 h6 w64 k1 r3 s3 p2 e2 flip",
    "conv2d f64 n1 c200 h5 w31 k2 r3 s3 p2 l2 flip",
    "conv2d f64 n1 c6 h13 w29 k1 r1 s1 p0:1 e2 flip",
    "conv1d f32 n2 c7 w211 k1 s16 p15 e8 flip",
    "conv2d f32 n2 c6 h5 w37 k14 r5 s5 g2 p4 e3 flip threads2",
    "conv3d f32 n1 c3 d4 h5 w6 k5 t3 r2 s4 p2,1,3 e1,2,3 flip",
    "conv2d f64 n1 c3 h4 w5 k2 r3 s3 p9 strided",
    "conv2d f32 n1 c3 h9 w21 k3 r2 s7 p0,2 e5,4 flip",
    # a last tile of one pixel, whatever a vector's length
    "conv2d f32 n2 c23 h7 w7 k20 r1 s1",
    "conv2d f64 n1 c9 h7 w7 k11 r3 s3 p1 strided",
)

#: Signals and images: one channel, long or wide, every boundary.
SIGNALS = (
    "conv1d f32 n1 c1 w4000 k1 s31 p30 flip",
    "conv1d f64 n1 c1 w4096 k1 s1001 p1000 flip",
    "conv1d f64 n1 c1 w3001 k1 s400",
    "conv1d f32 n2 c2 w2500 k3 s257 p128",
    "conv1d c64 n1 c1 w1500 k1 s63 p62 flip",
    "conv1d c128 n1 c1 w999 k2 s100 p50",
    "conv1d f64 n1 c1 w1000 k1 s1000",  # one output
    "conv1d f64 n1 c1 w200 k1 s200 p199 flip",  # kernel equal to the input
    "conv1d f32 n1 c1 w5 k1 s64 p63 flip",  # and larger
    "conv1d f64 n5 c1 w120 k1 s9 p4 u4",
    "conv2d f32 n3 c2 h10 w19 k5 r5 s9 p9,12 u2 strided",  # padding longer than the kernel
    "conv3d f64 n3 c1 d9 h11 w21 k2 t3 r2 s4 p3,4,5 u2,1,3",  # an odd number of blocks
    "conv3d c64 n1 c2 d9 h1 w21 k1 t3 r1 s4 p3,0,5 reflect",  # an axis between without taps
    "conv1d f64 n1 c1 w60 k1 s41 p40 u2 e3 flip",  # upfirdn
    "conv1d f64 n1 c3 w300 k3 s33 g3 p16 reflect",
    "conv1d f32 n1 c1 w300 k1 s129 p64 mirror",
    "conv1d f32 n1 c1 w300 k1 s129 p64 nearest flip",
    "conv1d c64 n1 c1 w300 k1 s129 p64 wrap",
    "conv1d f64 n1 c1 w300 k1 s129 p64 constant=-2.5",
    "conv1d f32 n1 c1 w4 k1 s21 p10 reflect",  # around the input more than once
    "conv1d f32 n1 c1 w4 k1 s21 p10 mirror",
    "conv1d f32 n1 c1 w4 k1 s21 p10 wrap",
    "conv1d f32 n1 c1 w1 k1 s7 p3 mirror",
    "conv2d f32 n1 c1 h33 w47 k1 r5 s5 p2 reflect",
    "conv2d f64 n1 c1 h33 w47 k1 r5 s5 p2 mirror flip",
    "conv2d f32 n1 c1 h20 w31 k1 r9 s11 p4,5 nearest",
    "conv2d f64 n1 c1 h20 w31 k1 r9 s11 p4,5 wrap",
    "conv2d f32 n1 c2 h9 w10 k3 r3 s3 p1 constant=1.5",
    "conv2d f32 n1 c2 h9 w10 k3 r3 s3 p2 u2 wrap",
    "conv2d f32 n2 c4 h9 w10 k4 r3 s3 g2 p1 reflect",
    "conv2d c128 n1 c1 h9 w10 k1 r3 s3 p1 constant=1.5-2j",
    "conv2d f64 n1 c1 h3 w2 k1 r9 s9 p4 reflect",
    "conv2d f64 n1 c1 h64 w64 k1 r31 s31 p30 flip",
    "conv2d f32 n1 c1 h70 w50 k1 r24 s24",  # template matching
    "conv2d c64 n1 c2 h24 w23 k2 r8 s8 p7",
    "conv2d f32 n1 c1 h60 w1 k1 r7 s1 p3,0 nearest",
    "conv2d f32 n1 c1 h1 w60 k1 r1 s7 p0,3 nearest",
    "conv2d f32 n3 c1 h40 w7 k1 r15 s1 p7,0 reflect",
    "conv2d f64 n2 c1 h5 w300 k1 r1 s129 p0,64",  # a block holds a row: in halves
    "conv2d f32 n2 c1 h300 w5 k1 r129 s1 p64,0",  # and a column, beside which others lie
    "conv3d f64 n1 c1 d9 h8 w7 k1 t3 r3 s3 p1 reflect",
    "conv3d f32 n1 c1 d12 h13 w11 k1 t5 r6 s7 p4,5,6 flip",
    "conv3d c64 n1 c1 d5 h4 w6 k1 t3 r2 s3 p1 mirror",
    "conv4d f64 n1 c2 i4,3,5,6 k2 f2,3,2,3 p1",
    "conv4d f32 n1 c1 i5,4,3,6 k1 f3,3,3,3 p1 wrap",
    "conv5d f64 n1 c1 i3,2,3,2,3 k1 f2,2,2,2,2 p1,0,1,0,1",
)

#: Other number types: exact, complex, wide, and narrow ones that are storage only.
DTYPES = (
    *(f"conv1d {d} n1 c1 w70 k1 s9 p8 flip" for d in ("i8", "u8", "i16", "u16", "i32", "u32")),
    *(f"conv2d {d} n1 c3 h9 w37 k5 r3 s3 p1" for d in ("i8", "u8", "i32", "i64", "u64", "bool")),
    "conv1d i64 n1 c1 w900 k1 s120 p119 flip",
    "conv1d u8 n1 c1 w20 k1 s5 p6 constant=200",
    "conv2d i16 n1 c2 h9 w10 k3 r3 s3 p4 u2 l2 mirror",
    "conv1d i32 n2 c4 w19 k6 s3 g2 p5 e3",
    "conv1d bool n1 c1 w90 k1 s11 p10",
    "conv2d c64 n1 c5 h9 w11 k7 r3 s3 p1",
    "conv2d c128 n2 c4 h9 w10 k6 r3 s3 g2 p1 u2",
    "conv1d f80 n1 c2 w40 k3 s5 p2",
    "conv1d c160 n1 c1 w30 k1 s7 p6",
    "conv2d f32 n1 c3 h9 w11 k5 r3 s3 p1 x:f16 w:f16 y:f16",
    "conv2d f32 n1 c3 h9 w11 k5 r3 s3 p1 x:bf16 w:bf16 y:bf16",
    # bfloat16 of tiles: odd channels and filters, strides, groups, taps of a third axis
    "conv2d f32 n1 c33 h5 w9 k17 r3 s3 p1 x:bf16 w:bf16 y:bf16",
    "conv2d f32 n1 c64 h11 w13 k16 r3 s3 p1 u2 x:bf16 w:bf16 y:bf16 threads2",
    "conv2d f32 n2 c64 h7 w6 k40 r1 s1 g2 x:bf16 w:bf16 y:bf16 threads2",
    "conv2d f32 n1 c32 h13 w20 k9 r3 s3 p2 u3 l2 x:bf16 w:bf16 y:bf16",
    "conv1d f32 n1 c40 w60 k18 s3 p1 x:bf16 w:bf16 y:bf16 strided",
    "conv3d f32 n1 c32 d3 h4 w5 k5 t2 r3 s3 p1 x:bf16 w:bf16 y:bf16",
    "conv2d f32 n1 c70 h6 w6 k20 r1 s1 x:bf16 w:bf16",
    # and float16, beside weights and results of others too
    "conv2d f32 n1 c33 h5 w9 k17 r3 s3 p1 x:f16 w:f16 y:f16",
    "conv2d f32 n1 c64 h11 w13 k16 r3 s3 p1 u2 x:f16 w:f16 y:f16 threads2",
    "conv2d f32 n2 c64 h7 w6 k40 r1 s1 g2 x:f16 w:f16 y:f16 N*C",
    "conv1d f32 n1 c40 w60 k18 s3 p1 u3 x:f16 w:f16 y:f16 strided",
    "conv3d f32 n1 c32 d3 h4 w5 k5 t2 r3 s3 p1 x:f16 w:f16 y:f16",
    "conv2d f32 n1 c70 h6 w6 k20 r1 s1 x:f16 w:f16",
    "conv2d f32 n1 c34 h6 w6 k20 r1 s1 x:f16 strict",
    "conv1d f32 n1 c1 w300 k1 s65 p64 x:f16 w:f16",
    # widened in parts: of groups, of images, one; several filters a channel; y in float32
    "conv2d f32 n2 c11 h60 w61 k22 r3 s3 g11 p1 u2 x:bf16 w:bf16 y:bf16 threads2",
    "conv2d f32 n7 c5 h90 w81 k5 r2 s5 g5 p1 reflect x:f16 w:f16 y:f16",
    "conv1d f32 n3 c4 w900 k4 s9 g4 p4 x:bf16 N*C",
    "conv2d f32 n1 c3 h9 w11 k5 r3 s3 p1 x:u8 y:f64",
    "conv2d f64 n1 c3 h9 w11 k5 r3 s3 p1 x:f32 y:f32",
    # pairs: an odd channel, tiles across rows and in bands, groups, zero points, sums made narrow
    "conv2d i32 n1 c5 h9 w11 k7 r3 s3 p1 x:u8 w:i8",
    "conv2d i32 n2 c6 h9 w37 k14 r3 s3 g2 p1 constant=131 x:u8 w:i8 threads2",
    "conv2d i32 n1 c130 h5 w6 k8 r3 s3 p1:2,2 x:i8 w:i8 y:i8",
    "conv2d i32 n2 c4 h12 w33 k7 r3 s3 p1 u2 constant=-128 x:i8 w:u8 y:u8",
    "conv2d i32 n1 c3 h9 w40 k5 r3 s3 p1 l2 x:u8 w:i16 y:i16 threads2",
    "conv2d u32 n1 c16 h7 w9 k20 r1 s1 x:u8 w:u8 N*C",
    "conv2d i32 n1 c9 h8 w8 k20 r1 s1 x:u8 w:i8 y:u8 strided threads2",
    "conv3d i32 n1 c3 d4 h5 w6 k5 t2 r3 s3 p1 x:i16 w:i16",
    "conv1d i32 n1 c3 w40 k3 s5 p4 e3 flip x:i8 w:u8",
    "conv2d i16 n1 c6 h9 w37 k14 r3 s3 g2 p1 constant=131 threads2",
    "conv2d u8 n2 c5 h12 w33 k7 r3 s3 p1 u2",
    "conv2d u16 n1 c130 h5 w6 k8 r3 s3 p1:2,2",
    "conv2d i32 n1 c64 h4 w4 k64 r3 s3 p1 x:u8 w:i8 y:u8 threads2",  # filters shared out
    # quads: channels that lack, padding along each axis, strides, both signs, several blocks
    "conv2d i32 n2 c6 h9 w101 k9 r3 s3 p0,2 u1,2 constant=-7 x:i8 w:i8 y:i8",
    "conv2d i32 n1 c7 h2 w52 k9 r3 s2 p2:1,0 constant=255 x:u8 w:u8 threads2",
    "conv2d i32 n1 c9 h6 w7 k11 r3 s3 p1,0 constant=3 x:i8 w:u8 y:u8 strided threads2",
    "conv2d i32 n2 c130 h7 w7 k17 r3 s3 p1 l2 constant=200 x:u8 w:i8",
    "conv1d u8 n1 c7 w40 k9 s3 p2",
    "conv1d i16 n1 c7 w40 k9 s3 p2 x:i8 w:u8",
    # quad_rows: rows around tiles of 4 and of 64, kernels around 4 columns, padding, both signs
    "conv2d i32 n1 c1 h21 w150 k1 r6 s7 x:u8 w:u8",
    "conv2d u32 n2 c3 h9 w71 k4 r1 s4 p0:2,3:0 x:u8 w:i8 threads2",
    "conv2d i32 n1 c4 h5 w70 k6 r5 s5 g2 p1 x:i8 w:u8 strided",
    "conv2d i32 n1 c2 h12 w67 k1 r9 s2 p2,1 flip x:i8 w:i8 threads2",
    # and strides, zero points, results of fewer bits
    "conv2d i32 n1 c3 h15 w140 k6 r3 s3 g3 p1 u2 constant=131 x:u8 w:i8 y:u8 threads2",
    "conv2d i32 n2 c2 h14 w30 k2 r5 s5 g2 p3:1,0:2 u3,1 constant=-5 x:i8 w:i8 y:i16",
    "conv2d u32 n1 c4 h7 w7 k4 r3 s3 g4 p9,70 u1,2 x:i8 w:u8 y:i8 strided",
    "conv2d u8 n1 c3 h9 w9 k3 r3 s3 g3 p1",
    # lanes of channels, the last not full; planes around 64 samples, and bands of rows; kernels
    # with code of their own and without; results of all sizes; samples that no window sees
    "conv2d i32 n2 c37 h9 w13 k37 r3 s3 g37 p1 constant=131 x:u8 w:i8 y:u8 threads2",
    "conv2d i32 n1 c16 h8 w8 k16 r5 s5 g16 p2 u2 constant=-5 x:i8 w:i8 y:i8",
    "conv2d u32 n2 c18 h12 w7 k18 r4 s6 g18 p0:3,2:1 u3,1 x:i8 w:u8 y:i16 strided threads2",
    "conv2d i32 n1 c33 h40 w63 k33 r5 s2 g33 u2,1 x:u8 w:u8 strided threads3",
    "conv2d i32 n1 c17 h6 w11 k17 r3 s3 g17 p0,1 u4,2 constant=7 x:i8 w:u8 y:u8 strided",
    "conv2d i32 n1 c20 h3 w59 k20 r3 s5 g20 p1,2 x:u8 w:i8",
    "conv2d i32 n1 c20 h12 w7 k20 r2 s4 g20 u3,2 x:u8 w:i8 y:u8",
    "conv2d i32 n1 c19 h10 w12 k19 r7 s7 g19 p3 constant=9 x:u8 w:i8 y:u8",
    "conv2d i32 n1 c17 h15 w14 k17 r7 s7 g17 p3 u2 x:i8 w:i8",
    # tiles of 64 channels, 16 filters and 16 pixels: one, more; both signs of both; padding that is
    # not 0; strides, dilation, an axis before the last two; rows that are one; every y
    "conv2d i32 n1 c64 h4 w4 k16 r1 s1 x:u8 w:i8",
    "conv2d i32 n2 c65 h6 w5 k17 r3 s3 p1 constant=131 x:u8 w:u8",
    "conv2d i32 n1 c70 h7 w7 k33 r3 s3 p1 u2 constant=-128 x:i8 w:i8 threads2",
    "conv2d i32 n1 c66 h9 w8 k40 r2 s3 g2 p2:0,0:3 u3,2 l2,3 constant=7 x:i8 w:u8 y:u8",
    "conv2d i32 n2 c36 h9 w80 k20 r1 s1 x:u8 w:i8 y:i16 threads2",
    "conv2d i32 n1 c130 h9 w9 k20 r1 s1 x:u8 w:i8 strided",
    "conv2d i32 n1 c40 h3 w70 k8 r3 s3 p1 x:u8 w:i8 y:i8 strided",
    "conv1d u32 n1 c35 w150 k20 s5 p2 x:u8 w:u8 threads3",
    "conv3d i32 n1 c34 d3 h4 w5 k18 t3 r3 s2 p1 u2,1,1 constant=200 x:u8 w:i8",
    # winograd_pairs: odd outputs, blocks that end within rows, one tile, few in a row, whole rows
    "conv2d i32 n1 c7 h13 w35 k9 r3 s3 p1 constant=-1 x:i8 w:i8 threads2",
    "conv2d i32 n2 c3 h6 w5 k13 r3 s3 p2:0,3:1 constant=255 x:u8 w:u8 y:i16",
    "conv2d i32 n1 c2 h4 w4 k1 r3 s3 x:i8 w:u8",
    "conv2d i32 n3 c8 h7 w7 k4 r3 s3 g4 p1 constant=9 flip x:u8 w:i8 y:u8 threads2",
    "conv2d i32 n1 c4 h18 w66 k6 r3 s3 x:u8 w:u8",
    "conv2d u32 n1 c1 h9 w130 k2 r3 s3 p5:0,0:7 x:u8 w:u8 strided",
    "conv2d i32 n1 c5 h14 w14 k8 r3 s3 p1 x:i8 w:i16",  # weights of more than a byte
)

#: Kernels that are outer products, and kernels of one axis: bands, rows, borders and boxes.
SEPARABLE = (
    "conv2d f32 n1 c1 h33 w47 k1 r5 s5 p2 reflect rank1",
    "conv2d f64 n1 c1 h33 w47 k1 r5 s5 p2 mirror flip rank1",
    "conv2d f32 n2 c3 h20 w31 k6 r9 s11 g3 p4,5 nearest rank1",
    "conv2d f64 n1 c1 h20 w31 k1 r9 s11 p4,5 wrap rank1",
    "conv2d f32 n1 c1 h40 w90 k1 r3 s3 p1 constant=1.5 rank1",
    "conv2d f32 n1 c1 h19 w150 k1 r2 s4 p1:0,2:1 rank1",
    "conv2d f32 n1 c1 h30 w21 k1 r5 s3 p9 rank1",  # outputs that see nothing but padding
    "conv2d f64 n1 c1 h5 w6 k1 r11 s9 p14,11 reflect rank1",  # around the input more than once
    "conv2d f32 n1 c1 h31 w33 k1 r4 s5 p3 u3,1 l2,3 mirror rank1",
    "conv2d f32 n1 c2 h21 w40 k4 r3 s7 g2 p1,3 N*C rank1",
    "conv2d f32 n1 c1 h30 w300 k1 r7 s7 p3 reflect strided rank1 threads3",
    "conv3d f32 n1 c1 d20 h31 w3 k1 t7 r9 s1 p3,4,0 reflect rank1",  # columns of pixels
    "conv3d f64 n1 c1 d9 h8 w50 k1 t3 r5 s1 p1,2,0 wrap rank1",
    "conv3d f32 n1 c1 d12 h13 w11 k1 t5 r6 s7 p4,5,6 flip rank1",
    "conv3d f32 n1 c1 d9 h8 w7 k1 t3 r3 s3 p1 reflect rank1 threads2",
    "conv3d f64 n1 c1 d9 h18 w7 k1 t3 r4 s3 p1,5,2 u2,2,1 l1,2,2 constant=2.0 rank1",
    "conv3d f32 n1 c1 d6 h7 w40 k1 t3 r1 s5 p1,0,2 nearest rank1",
    "conv4d f32 n1 c1 i5,4,6,7 k1 f3,1,3,3 p1,0,1,1 wrap rank1",
    "conv4d f32 n1 c1 i5,4,6,7 k1 f1,3,3,1 p0,1,1,0 rank1",
    "conv2d f32 n1 c1 h33 w47 k1 r7 s9 p3,4 reflect rank2",
    "conv2d f64 n2 c2 h21 w90 k2 r5 s7 g2 p2,3 constant=1.5 rank3 threads2",
    "conv2d f32 n1 c1 h30 w21 k1 r5 s6 p9 flip rank4",
    "conv2d f32 n1 c1 h75 w70 k1 r31 s9 p15,4 reflect rank1 box threads3",  # blocks of 31 rows
    "conv2d f64 n1 c1 h20 w300 k1 r9 s33 p4,16 mirror rank1 box",
    "conv2d f32 n1 c3 h17 w41 k3 r8 s8 g3 p3:4 l1,3 rank1 box",
    "conv3d f32 n1 c1 d40 h50 w3 k1 t12 r10 s1 p6:5,5:4,0 nearest rank1 box",  # columns of pixels
    "conv2d f32 n1 c1 h33 w150 k1 r3 s20 p1,10 u2,1 wrap rank1 box",
    "conv2d u8 n1 c1 h33 w150 k1 r3 s3 p1 reflect rank1",  # modulo 2^16
    "conv2d u8 n1 c1 h9 w40 k1 r3 s3 p1 constant=200 rank1",
    "conv2d i16 n1 c2 h20 w131 k2 r3 s5 g2 p1,2 constant=-7 x:u8 rank1 threads2",
    "conv2d u16 n1 c1 h21 w40 k1 r4 s3 p3 u2,1 l1,2 wrap strided rank1",
    "conv3d i16 n1 c1 d9 h18 w37 k1 t3 r3 s3 p1 mirror x:u8 rank1",
    "conv3d u8 n1 c1 d20 h50 w3 k1 t3 r3 s1 p1,1,0 nearest rank1",
    "conv3d f32 n1 c1 d30 h8 w9 k1 t9 r1 s1 p4,0,0 reflect",
    "conv2d f64 n1 c1 h5 w130 k1 r1 s12 p0,6 l1,2 mirror",
    "conv2d f32 n1 c1 h8 w70 k1 r3 s1 p2,0 u2,1",
)

#: The least there can be of everything, and sizes around vectors and register tiles.
EDGES = (
    "conv1d f32 n1 c1 w1 k1 s1",
    "conv2d f64 n1 c1 h1 w1 k1 r1 s1",
    "conv2d f32 n1 c1 h1 w1 k1 r3 s3 p1",
    "conv3d f32 n1 c1 d1 h1 w1 k1 t1 r1 s1",
    "conv2d f32 n1 c2 h3 w3 k2 r3 s3",
    "conv2d f32 n1 c2 h3 w3 k2 r3 s3 p9",  # most outputs see nothing but padding
    "conv2d f32 n1 c3 h2 w2 k4 r1 s1 p0:1 u2",  # as many outputs as samples, not one by one
    "conv2d f32 n1 c1 h4 w4 k2 r2 s2 p0:7,5:0",
    "conv1d f32 n1 c1 w2 k1 s2 p8 u5",
    "conv1d f64 n1 c1 w0 k1 s3 p2 constant=3.0",
    "conv2d f32 n1 c2 h9 w8 k3 r1 s1 p2",
    "conv2d f32 n1 c2 h9 w8 k3 r1 s1 u3 l5",
    "conv2d f32 n1 c9 h9 w9 k9 r1 s1 p0:1,0:2",
    "conv1d f32 n1 c2 w30 k2 s3 p1 u40",
    *(f"conv1d f32 n1 c2 w{w + 2} k5 s3" for w in (7, 8, 15, 16, 17, 31, 33, 63, 65)),
    *(f"conv1d f32 n1 c2 w{w} k5 s3 p1" for w in (94, 95, 96, 97, 127, 129, 191, 193)),
    *(f"conv2d f32 n1 c2 h3 w19 k{k} r3 s3 p1" for k in range(1, 10)),
    *(f"conv2d f64 n1 c3 h3 w25 k{k} r2 s3 p1" for k in (1, 3, 5, 6, 7)),
    *(f"conv2d f32 n1 c3 h{h} w{w} k4 r3 s3 p1" for h, w in ((4, 5), (6, 4), (7, 25), (13, 8))),
)

#: One input channel a filter: pieces of rows, bands, edges wider than a vector, merged axes.
DEPTHWISE = (
    *(f"conv2d f32 n2 c3 h9 w{w} k3 r3 s3 g3 p1" for w in (1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 63)),
    *(f"conv2d f64 n1 c2 h{h} w21 k4 r3 s3 g2 p1{u}" for h in (1, 2, 3, 6, 7) for u in ("", " u2")),
    # tiles of 1 to 10 rows, kernels of 1 to 5 rows at a time and of more, halves of vectors
    *(f"conv2d f32 n1 c3 h{h} w{14 - h} k3 r{h} s5 g3 p2" for h in range(2, 12)),
    "conv2d f32 n1 c3 h1 w14 k3 r2 s5 g3 p2",
    "conv2d f64 n2 c3 h10 w14 k3 r5 s5 g3 p2",
    "conv2d f32 n1 c3 h23 w14 k6 r7 s5 g3 p3,2 u2",  # even and odd kernel rows
    "conv2d f32 n1 c2 h33 w14 k2 r4 s5 g2 p3,4 l3,2",  # phases of rows
    "conv2d f32 n1 c2 h33 w14 k2 r4 s5 g2 p3,4 u2,1 l3,2 threads2",
    "conv2d f32 n1 c3 h20 w400 k3 r3 s3 g3 p1",  # rows read in place between strips
    "conv2d f32 n1 c1 h12 w600 k1 r5 s7 p9,20 reflect",  # edges of more than a vector
    "conv2d f64 n1 c1 h11 w300 k2 r3 s4 p1:0,2:3 wrap threads3",
    "conv2d f32 n1 c1 h7 w500 k1 r4 s3 p5 constant=-1.25",  # whole rows beyond the ends
    "conv2d f32 n1 c2 h40 w300 k2 r5 s3 g2 p4,2 l3,2 mirror",  # dilated rows: several phases
    "conv2d f64 n1 c2 h40 w90 k2 r7 s5 g2 p4 u3,2 l2,3",
    "conv2d f32 n1 c2 h60 w61 k2 r3 s3 g2 p1 u2 threads8",
    "conv2d f32 n1 c2 h15 w40 k2 r1 s3 g2 p0,1",
    "conv2d f32 n1 c2 h15 w40 k2 r3 s1 g2 p1,0 nearest",
    "conv3d f32 n1 c1 d20 h50 w3 k1 t3 r5 s1 p1,2,0 reflect",  # a picture: rows of 3 elements
    "conv3d f64 n1 c2 d9 h10 w40 k2 t3 r1 s1 g2 p1,0,0",  # filtered along its first axis
    "conv3d f32 n2 c2 d6 h7 w30 k2 t3 r3 s5 g2 p1,1,2 u2,1,1",
    "conv4d f32 n1 c2 i3,4,5,20 k4 f2,3,1,5 g2 p1,1,0,2 wrap",
    "conv1d f32 n1 c1 w40000 k1 s19 p18 flip threads2",  # several pieces of a row
    "conv1d f64 n1 c1 w20000 k1 s300 p299 flip",
    "conv1d f64 n3 c2 w5000 k2 s33 g2 p16 l2 threads2",
    "conv1d f32 n1 c2 w9000 k2 s5 g2 p6 u3 l4",
    "conv1d f32 n1 c1 w900 k1 s31 p15 reflect x:u8",  # stored otherwise: converted in strips
    "conv2d f32 n1 c3 h12 w260 k3 r3 s3 g3 p1 x:i16",
    "conv2d f64 n1 c1 h12 w260 k1 r3 s3 p1 mirror x:i8",
    "conv2d i32 n1 c1 h9 w40 k1 r3 s3 p1 constant=-7 x:i8",
    "conv2d f64 n1 c1 h9 w40 k1 r3 s3 p1 u2 x:f32 y:f32",
    "conv1d i64 n1 c1 w5000 k1 s64 p63 flip",
    "conv2d u32 n1 c2 h9 w40 k2 r3 s3 g2 p1 wrap",
    "conv2d f32 n1 c2 h9 w40 k2 r3 s3 g2 p1 N*C",
    "conv2d f32 n1 c2 h9 w400 k2 r3 s3 g2 p1 strided",
)

#: Data without a negative number: sums and transforms of tails.
NONNEGATIVE = (
    "conv1d f64 n1 c1 w3000 k1 s2000 p1999 flip strict nonnegative",
    "conv1d f64 n1 c1 w3001 k1 s1999 strict nonnegative",
    "conv1d f64 n1 c1 w2000 k1 s2600 p2599 prepared threads2 strict nonnegative",
    "conv1d f32 n1 c1 w2500 k1 s1200 p1199 flip strict nonnegative",
    "conv1d f32 n2 c3 w1500 k6 s1400 g3 p1399 strict nonnegative",
    "conv1d f64 n2 c1 w1200 k2 s900 p5:1100 threads2 strict nonnegative",
    "conv1d f64 n1 c1 w20 k1 s9 p30 strict nonnegative",  # windows beyond the ends
    "conv1d f32 n1 c1 w1 k1 s1 nonnegative",
    "conv1d f64 n1 c1 w300 k1 s300 nonnegative",
    "conv1d f64 n1 c1 w90 k1 s30 p29 strict deterministic nonnegative",
    "conv1d f32 n1 c1 w900 k1 s500 p499 x:f16 strict nonnegative",
)

#: Gradients of weights: filters and images that fill no tile, rows that fill no step, strides (l)
#: and dilations (u) of the layer, groups.
GRADIENTS = (
    "conv2d f32 n20 c3 h9 w11 k18 r9 s11 p1", "conv2d f32 n17 c2 h8 w9 k9 r8 s9",
    "conv2d f32 n33 c5 h7 w7 k8 r7 s7 p1 threads3", "conv2d f32 n9 c2 h13 w40 k35 r13 s40 p1",
    "conv2d f32 n8 c3 h15 w16 k10 r9 s10 p1,2:1 u3 l1,2", "conv1d f32 n9 c4 w300 k8 s298 strict",
    "conv1d f32 n8 c2 w900 k9 s450 p4 l2 flip", "conv3d f32 n10 c2 d3 h5 w6 k8 t3 r5 s6 p1",
    "conv3d f32 n8 c2 d3 h6 w7 k16 t3 r3 s4 g2 p0,1,1 u1,2,1 l1,2,2",
)  # fmt: skip

#: One string a bug: the shape on which it was seen.
FIXED: tuple[str, ...] = (
    # no output meets a sample: winograd solved it, of a dtype and accuracy that are not its own
    "conv1d c64 n1 c1 w1 k1 s1 p1:0 u2 e2",
    # implicit_gemm copied the imaginary part of a lone channel, of stride 0, from padding
    "conv1d c64 n1 c1 w1 k1 s1 constant=1.5j",
    # pairs read a single row that is not dense as if it were, and x as if it were of 16 bits
    "conv2d i8 n1 c1 h1 w5 k1 r1 s1 strided",
    "conv2d i8 n1 c3 h9 w11 k5 r3 s3 p1 x:i32",
    # limbs, asked whether it takes a box of whole numbers, raised
    "conv2d i32 n1 c1 h12 w11 k1 r3 s4 p1 reflect rank1 box",
)

PROBLEMS = (
    NETWORKS + SIGNALS + DTYPES + SEPARABLE + EDGES + DEPTHWISE + GRADIENTS + NONNEGATIVE + FIXED
)


class Emulated(AmxSplit):
    """amx_split on tiles in memory, of however few channels: what can be tried on any machine."""

    name = "amx_emulated"
    emulated = True

    def why_not(self, problem: Problem) -> str | None:
        channels, filters = (n // problem.groups for n in (problem.channels, problem.filters))
        pixels = problem.batch * int(np.prod(problem.out)) // int(np.prod(problem.input_dilation))
        tiles = problem.groups * (-(-channels // 32) * -(-filters // 16) * -(-pixels // 16))
        if tiles * int(np.prod(problem.kernel)) * 6 > 700:  # some 10 us each
            return "it takes too long to emulate"
        return super().why_not(problem)


class EmulatedInt8(AmxInt8):
    """amx_int8 on tiles in memory, of however few channels."""

    name = "amx_int8_emulated"
    emulated = True

    def why_not(self, problem: Problem) -> str | None:
        if int(np.prod(problem.y_shape)) * int(np.prod(problem.kernel)) > 300_000:
            return "it takes too long to emulate"
        return super().why_not(problem)


class EmulatedWinograd(AmxWinograd):
    """amx_winograd on tiles in memory, of however few channels."""

    name = "amx_winograd_emulated"
    emulated = True

    def why_not(self, problem: Problem) -> str | None:
        channels, filters = (n // problem.groups for n in (problem.channels, problem.filters))
        tiles = problem.groups * (-(-channels // 32) * -(-filters // 16))
        if tiles * max(16, problem.batch * int(np.prod(problem.out)) // 9) > 100:
            return "it takes too long to emulate"
        return super().why_not(problem)


class EmulatedGradient(AmxGradient):
    """amx_gradient on tiles in memory, of however few filters, images and samples."""

    name = "amx_gradient_emulated"
    emulated = True
    most = 400  # tiles of sums, some 60 us each

    def why_not(self, problem: Problem) -> str | None:
        filters, images = problem.filters // problem.groups, problem.batch
        tiles = problem.groups * (-(-filters // 16) * -(-images // 16))
        steps = problem.channels // problem.groups * int(np.prod(problem.kernel)) // 32 + 1
        few = np.prod(problem.out) < np.prod(problem.kernel)  # outputs, as it is for
        if tiles * steps * int(np.prod(problem.out)) > (self.most if few else 40):
            return "it takes too long to emulate"
        return super().why_not(problem)


EMULATED, EMULATED_INT8 = Emulated(), EmulatedInt8()
EMULATED_WINOGRAD, EMULATED_GRADIENT = EmulatedWinograd(), EmulatedGradient()

_ABSENT = {
    "amx_split": core.amx_absent(), "amx_int8": core.amx_int8_absent(),
    "quads": core.quads_absent(), "quad_rows": core.quads_absent(),
    "amx_winograd": core.amx_absent(), "amx_gradient": core.amx_absent(),
}  # fmt: skip

#: Solvers of the CPU that run here: where it has no tiles, those on them by emulation alone.
CPU: list[Solver] = [
    *(s for s in SOLVERS if s.device == "cpu" and not _ABSENT.get(s.name)),
    EMULATED,
    EMULATED_INT8,
    EMULATED_WINOGRAD,
    EMULATED_GRADIENT,
]

#: Solvers of the CPU whose bound is against B, the largest sample times the sum of magnitudes of a
#: filter, because they mix windows.
MIXING = tuple(
    s.name for s in (*SOLVERS, EMULATED_WINOGRAD) if s.mixes_windows and s.device == "cpu"
)


@functools.cache
def parsed(text: str) -> Problem:
    """`Problem.parse`; kept, because every solver is asked about every problem."""
    return Problem.parse(text)


def stored(a: Array, name: str) -> Array:
    """`a` in the dtype of a short text."""
    return a.astype(numpy_dtype(name))


def values(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Random numbers of a dtype: integers over its whole range, others standard normal."""
    dtype = numpy_dtype(name)
    if dtype.kind == "b":
        return rng.random(shape) < 0.25
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    real = rng.standard_normal(shape)
    if dtype.kind == "c":
        return (real + 1j * rng.standard_normal(shape)).astype(dtype)
    return real.astype(dtype)


def in_layout(x: Array, layout: str) -> Array:
    """`x` with the strides that a layout's name says."""
    if layout == "N*C":
        return np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
    if layout == "strided":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)
        wide[..., 1::2] = x
        return wide[..., 1::2]
    return x


def outer_product(w: Array) -> Array:
    """A kernel of rank 1: for each filter the product of w's lines through its first sample; of
    integers, those after the first line are -1, 0 and 1."""
    if w.dtype.kind in "iu":
        whole = w.astype(np.int64)
        kernel = whole[(slice(None),) * 3 + (slice(1),) * (w.ndim - 3)]
        for axis in range(3, w.ndim):
            index = tuple(slice(None if d in (0, 1, axis) else 1) for d in range(w.ndim))
            line = whole[index] % 3 - 1
            line[(slice(None), slice(None), *[0] * (w.ndim - 2))] = 1
            kernel = kernel * line
        return kernel.astype(w.dtype)
    product = np.ones((), np.longdouble)
    for axis in range(2, w.ndim):
        index = tuple(slice(None if d in (0, 1, axis) else 1) for d in range(w.ndim))
        product = product * w[index].astype(np.longdouble)
    largest = abs(product).max(initial=0)
    if largest > np.finfo(w.dtype).max:  # a power of two leaves the rank as it is
        product = product / 2.0 ** np.ceil(np.log2(largest / np.finfo(w.dtype).max) + 1)
    return product.astype(w.dtype)


def low_rank(w: Array, problem: Problem) -> Array:
    """A kernel of the problem's rank: a box, a product, or a sum of products of one sign."""
    if problem.box:
        return np.full_like(w, 0.3)
    if problem.rank == 1:
        return outer_product(w)
    rows = abs(w).clip(0.1, 1) * np.linspace(1, 2, w.size).reshape(w.shape)
    return np.sum([outer_product(np.roll(rows, t, -1)) for t in range(problem.rank)], 0, w.dtype)


def arrays(problem: Problem, seed: int = 0) -> tuple[Array, Array, Array]:
    """x, w and bias for a problem, always the same; none of them writable."""
    rng = np.random.default_rng([seed, zlib.crc32(str(problem).encode())])
    x = in_layout(values(rng, problem.x_dtype, problem.x_shape), problem.layout)
    w = values(rng, problem.w_dtype, problem.w_shape)
    if problem.rank:
        w = low_rank(w, problem)
    if problem.nonnegative:
        x, w = abs(x), abs(w)
    bias = values(rng, problem.dtype, (problem.filters,))
    for a in (x, w, bias):
        a.flags.writeable = False
    return x, w, bias


def oracle(problem: Problem, x: Array, w: Array, bias: Array | None = None) -> tuple[Array, Array]:
    """The reference's y and S for a problem, of data rounded to the dtype computed in."""
    dtype = numpy_dtype(problem.dtype)
    return reference.conv(
        x.astype(dtype), w.astype(dtype), stride=problem.stride, dilation=problem.dilation,
        input_dilation=problem.input_dilation, padding=problem.padding, groups=problem.groups,
        boundary=problem.boundary, cval=problem.cval, flip=problem.flip,
        bias=None if bias is None else bias.astype(dtype),
    )  # fmt: skip


@functools.cache
def solved(text: str, with_bias: bool = False) -> tuple[Array, Array]:
    """`oracle` of `arrays` of a problem's text; kept, because every solver is asked the same."""
    problem = parsed(text)
    x, w, bias = arrays(problem)
    return reference.plus(*solved(text), bias) if with_bias else oracle(problem, x, w)


def mixed_magnitude(problem: Problem, x: Array, w: Array) -> Array:
    """B of each output: the largest magnitude a window can hold times the sum of the filter's."""
    dtype = numpy_dtype(problem.dtype)
    wide = np.dtype(np.longdouble)
    finite = np.where(np.isfinite(x), x, 0).astype(dtype)
    peak = abs(finite).max(initial=0).astype(wide)
    if problem.boundary == "constant":
        peak = max(peak, wide.type(abs(problem.cval)))
    sums = abs(w.astype(dtype)).astype(wide).sum(axis=tuple(range(1, w.ndim)))
    return (peak * sums).reshape(1, -1, *(1,) * problem.ndim)


def check(
    problem: Problem, y: Array, expected: tuple[Array, Array], bound: float,
    mixed: Array | None = None, label: str = "",
) -> None:  # fmt: skip
    """Raise AssertionError unless `y` is a right answer within `bound`.

    `expected` is the oracle's (y, S). The error of each real or imaginary part may be `bound` times
    S, or times B where `mixed` gives it; then it may not pass S / 2 either, so that some digit is
    right. To both come the oracle's own rounding, the rounding of what is stored, and
    underflow. Where the window holds NaN or Inf, y must hold what the definition gives; where sums
    pass the largest number of the dtype computed in or stored, anything is right.
    """
    right, s = expected
    assert y.shape == right.shape, label
    if problem.is_exact:
        if problem.y_dtype == problem.dtype:
            np.testing.assert_array_equal(y, right, err_msg=f"{label} {problem}")
        else:
            np.testing.assert_array_equal(y, stored(right, problem.y_dtype), label)
        return
    info, kept = _info(problem.dtype), _info(problem.y_dtype)
    with np.errstate(all="ignore"):
        finite = np.isfinite(s)
        wide = s.dtype.type
        largest = min(wide(info.max), wide(kept.max))
        fits = finite & (s < largest / 4)
        magnitude = s if mixed is None else np.broadcast_to(mixed, s.shape) + s
        own = (problem.taps + 1) * float(np.finfo(s.dtype).eps)
        underflow = wide(info.smallest_subnormal) * (2 + 2 * problem.taps)
        if problem.rank:  # rows between passes underflow, and are then multiplied
            underflow = underflow + wide(info.smallest_normal)
        allowed = bound * magnitude + own * s
        if mixed is not None:
            allowed = np.minimum(allowed + _mixed_underflow(problem, info, s, mixed), s / 2)
        allowed = allowed + underflow
        if kept.eps > info.eps:
            allowed = allowed + kept.eps * abs(right) + wide(kept.smallest_subnormal)
        allowed = np.where(s == 0, 0, allowed)
        for part in (np.real, np.imag) if np.iscomplexobj(right) else (np.real,):
            error = abs(part(y).astype(s.dtype) - part(right))
            bad = fits & ~(error <= allowed)
            if bad.any():
                i = np.unravel_index(np.argmax(np.where(bad, error - allowed, -1)), bad.shape)
                raise AssertionError(
                    f"{label} {problem}: {bad.sum()} of {bad.size} outputs are off, the worst at"
                    f" {tuple(map(int, i))}: got {y[i]!r}, expected {right[i]!r}, error"
                    f" {float(error[i]):.3g}, allowed {float(allowed[i]):.3g}, S {float(s[i]):.3g}"
                )
        if not finite.all():
            _check_non_finite(y[~finite], right[~finite], s[~finite], f"{label} {problem}")


def _info(name: str) -> Any:
    dtype = numpy_dtype(name)
    if name == "bf16":
        import ml_dtypes

        return ml_dtypes.finfo(dtype)
    return np.finfo(dtype if dtype.kind in "fc" else np.float64)


def _mixed_underflow(problem: Problem, info: Any, s: Array, mixed: Array) -> Array:
    """What products below the smallest normal number may lose, passed through a transform."""
    length = int(np.prod(problem.padded)) * max(1, problem.channels // problem.groups)
    return s.dtype.type(info.smallest_normal) * length * np.maximum(1, mixed)


def _check_non_finite(y: Array, right: Array, s: Array, label: str) -> None:
    """Where a window holds NaN or Inf: NaN and each Inf as defined; complex ones just not finite.

    A sum of finite products may overflow in a narrower type and so turn an Inf to NaN; data with
    infinities is made small enough not to.
    """
    if np.iscomplexobj(right):
        assert not np.isfinite(y[~np.isfinite(right)]).any(), label
        return
    np.testing.assert_array_equal(np.isnan(y), np.isnan(right), err_msg=label)
    infinite = np.isinf(right)
    np.testing.assert_array_equal(y[infinite].astype(float), right[infinite].astype(float), label)
