#!/usr/bin/env bash
# An exception that a Hydra callback raises in on_multirun_start does not stop the sweep: Hydra 1.3.8 prints a warning,
# runs every job, and ends with status 0. A callback that has to refuse a sweep (here: because another one is at work in
# its folder) must raise SystemExit, which Hydra lets through.
#
# Seen with hydra-core 1.3.8: a ValueError in on_multirun_start, status 0 and both jobs run; SystemExit(2) there, status
# 2 and no job. Exit status 0: seen again; 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --target "$folder/packages" hydra-core==1.3.8 2> /dev/null
mkdir "$folder/conf"
cat > "$folder/conf/config.yaml" <<'YAML'
x: 0
hydra:
  callbacks:
    guard:
      _target_: app.Guard
YAML
cat > "$folder/app.py" <<'PYTHON'
import os, sys
import hydra
from hydra.experimental.callback import Callback

class Guard(Callback):
    def on_multirun_start(self, config, **kwargs):
        raise {"ValueError": ValueError, "SystemExit": SystemExit}[os.environ["KIND"]](2)

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    print("job", cfg.x)

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
PYTHON
run() {  # prints the exit status and the number of jobs
  local status=0
  (cd "$folder" && KIND=$1 PYTHONPATH="$folder/packages:$folder" python3 app.py --multirun x=1,2 > out.txt 2> err.txt) || status=$?
  echo "$status $(grep -c '^job' "$folder/out.txt" || true)"
}
first=$(run ValueError)
second=$(run SystemExit)
echo "ValueError: status and jobs $first"
echo "SystemExit: status and jobs $second"
[ "$first" = "0 2" ] && [ "$second" = "2 0" ] || exit 1
