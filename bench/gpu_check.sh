#!/usr/bin/env bash
# Everything that only a machine with a GPU can tell, in one command of less than 9 minutes:
#
#     bench/gpu_check.sh [--quick]
#
# It prints its table last and writes bench/results/gpu/<date>-<gpu>.json. Needs PyTorch, which
# makes the arrays and is compared with. Exit status: 0 all is right, 1 something is wrong, 3 there
# is no GPU.
#
# PYTHON                  the interpreter; by default .venv/bin/python if there is one, or python3
# FASTCONV_CUBINS_AHEAD   kernels compiled elsewhere: python -m bench.gpu_check --compile 9.0 DIR
set -u
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
exec timeout --kill-after=10 530 "$python" -u -m bench.gpu_check "$@"
