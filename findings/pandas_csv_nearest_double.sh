#!/usr/bin/env bash
# The default CSV parser of pandas 2.3.3 does not return the nearest double of a number with 17 digits; that of pandas
# 3.1.1 does. The same file therefore gives other bytes under the two versions, and a hash of its values differs.
#
# Seen: pandas 2.3.3 returns another double than Python's float() for about a third of 60,000 random numbers, each off by one
# unit of the last place; with float_precision="round_trip" for none. pandas 3.1.1 does so for none without the option.
# The product reads with "round_trip" below pandas 3.1 (mpc_appraisal/data/tables.py), so that listings do not depend on
# the version. Exit status 0: seen again; 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/count.py" <<'PYTHON'
import csv, io, random, sys
import pandas as pd
random.seed(0)
texts = [repr(random.gauss(0, 1)) for _ in range(60_000)]
file = "x\n" + "\n".join(texts) + "\n"
exact = [float(text) for text in texts]
counts = []
for options in ({}, {"float_precision": "round_trip"}):
    read = pd.read_csv(io.StringIO(file), **options)["x"].tolist()
    counts.append(sum(a != b for a, b in zip(read, exact)))
print(pd.__version__, *counts)
PYTHON
for version in 2.3.3 3.1.1; do
  python3 -m pip install --quiet --target "$folder/$version" "pandas==$version" "numpy==2.2.6" 2> /dev/null
done
old=$(PYTHONPATH="$folder/2.3.3" python3 -W ignore "$folder/count.py")
new=$(PYTHONPATH="$folder/3.1.1" python3 -W ignore "$folder/count.py")
echo "version, other doubles by default, other doubles with round_trip:"
echo "$old"
echo "$new"
read -r _ default exact <<< "$old"
read -r _ later _ <<< "$new"
[ "$default" -gt 10000 ] && [ "$exact" -eq 0 ] && [ "$later" -eq 0 ] || exit 1
